//! Spin applications: several components behind one port. Each is a handler of its own with its own
//! environment, files, variables and rights; all share the container's limits, log and end. The
//! container's handler only looks which of them a path is for. Components call each other without a
//! socket, under `http://COMPONENT.spin.internal`, and their own application under `http://self`.

pub mod host;
mod routes;
mod variables;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, OnceLock, Weak},
};

use ::http::{
    HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header, uri::PathAndQuery,
};
use bytes::Bytes;
use futures::future::BoxFuture;
use http_body::Body;
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime_wasi_http::{Error, WasiBody};
use windlass_runtime_api::{
    AllowedHosts, ContainerSpec, HostRule, Image, Mount, RuntimeError, SpinApp, SpinComponent,
    SpinRoute,
};

use self::routes::Routes;
use crate::{
    artifact::{CREATE_ERROR, Program, Run, Serve},
    compile::Compiler,
    container::Container,
    http::{Answer, Handler, text},
};

const CONFIG_ERROR: &str = "CreateContainerConfigError";
/// Names that lead from one component to another.
const INTERNAL: &str = ".spin.internal";
const SELF: &str = "self";
/// The wildcard route that a component has for its siblings.
const ANY: &str = "/...";
/// The client's address where the client is no socket.
const NOBODY: &str = "0.0.0.0:0";
/// Calls of an application's components to each other that are under way. Each holds an instance
/// while it waits for another, so a circle must end.
const CALLS: usize = 64;

/// An application that runs.
pub struct App {
    routes: Routes,
    handlers: BTreeMap<String, Arc<Handler>>,
    calls: Arc<Semaphore>,
}

/// What one component has that its siblings don't.
pub struct Part {
    pub app_name: String,
    pub component: SpinComponent,
    pub variables: BTreeMap<String, String>,
    app: OnceLock<Weak<App>>,
}

/// Where a request came from, for `spin-client-addr`.
#[derive(Clone, Copy)]
pub struct Client(pub SocketAddr);

/// One component as a container is given it: the application's spec with what is the component's.
pub fn parts(
    app: &SpinApp,
    spec: &ContainerSpec,
) -> Result<Vec<(ContainerSpec, Part)>, RuntimeError> {
    let wrong = |why: String| RuntimeError::new(CONFIG_ERROR, why);
    let values = variables::of_app(app, &spec.env).map_err(wrong)?;
    let part = |component: &SpinComponent| {
        let mut component = component.clone();
        for host in &mut component.allowed_outbound_hosts {
            *host = variables::fill(host, &values).map_err(|why| {
                wrong(format!("the host {host:?} of component {}: {why}", component.id))
            })?;
        }
        let variables = variables::of_component(&component, &values).map_err(wrong)?;
        let mut spec = spec_of(spec, &component);
        spec.reach.lists.push(hosts_of(&component).map_err(wrong)?);
        let part = Part { app_name: app.name.clone(), component, variables, app: OnceLock::new() };
        Ok((spec, part))
    };
    app.components.iter().map(part).collect()
}

/// What a component may call outside its application: what it doesn't name it may not.
fn hosts_of(component: &SpinComponent) -> Result<AllowedHosts, String> {
    let by = format!("the allowed_outbound_hosts of component {}", component.id);
    let outside = component.allowed_outbound_hosts.iter().filter(|host| !is_within(name_of(host)));
    let hosts = outside.map(|host| host.parse::<HostRule>().map_err(|bad| bad.to_string()));
    let hosts = hosts.collect::<Result<_, _>>().map_err(|why: String| format!("{by}: {why}"))?;
    Ok(AllowedHosts { by, hosts })
}

/// A name of the application itself, or a pattern of such names.
fn is_within(name: &str) -> bool {
    name.eq_ignore_ascii_case(SELF) || name.to_ascii_lowercase().ends_with(INTERNAL)
}

/// The host of a rule, without scheme, port and slash.
fn name_of(rule: &str) -> &str {
    let host = rule.split_once("://").map_or(rule, |(_, host)| host).trim_end_matches('/');
    host.split_once(':').map_or(host, |(host, _)| host)
}

fn spec_of(spec: &ContainerSpec, component: &SpinComponent) -> ContainerSpec {
    // The pod's word is the later one; variables of the application are none of the guest's.
    let own = spec.env.iter().filter(|(name, _)| !name.starts_with(variables::PREFIX));
    let mut env: BTreeMap<String, String> = component.env.iter().cloned().collect();
    env.extend(own.cloned());
    let root = component.files.clone().map(|host_path| Mount {
        host_path,
        container_path: "/".into(),
        read_only: true,
        ..Mount::default()
    });
    ContainerSpec {
        image: image_of(&spec.image, component),
        env: env.into_iter().collect(),
        mounts: spec.mounts.iter().cloned().chain(root).collect(),
        ..spec.clone()
    }
}

/// One component of an application, as an image that is nothing else.
pub fn image_of(app: &Image, component: &SpinComponent) -> Image {
    Image {
        wasm_digest: component.wasm_digest.clone(),
        wasm_path: component.wasm_path.clone(),
        config: Default::default(),
        ..app.clone()
    }
}

/// What the container's own handler is made of: it answers nothing itself.
pub struct Front {
    pub program: Serve,
    pub run: Option<Run>,
    pub weight: u32,
}

/// Makes a handler for each component; what of them can't run is told with the component's name.
pub async fn start(
    compiler: &Arc<Compiler>,
    app: &SpinApp,
    container: &Container,
    parts: Vec<(ContainerSpec, Part)>,
) -> Result<(Arc<App>, Front), RuntimeError> {
    let (mut handlers, mut front) = (BTreeMap::new(), None);
    for (spec, part) in parts {
        let id = part.component.id.clone();
        let of = |error: RuntimeError| {
            let why = format!("component {id} of the Spin application: {}", error.message);
            RuntimeError::new(error.reason, why)
        };
        let artifact = compiler.artifact(&spec.image).await.map_err(of)?;
        let (program, run) = match artifact.program {
            Program::Handler(program, run) => (program, run),
            Program::Command(_) => {
                let why = "it exports no handler of wasi:http, and no other is called here";
                return Err(of(RuntimeError::new(CREATE_ERROR, why)));
            }
        };
        let own = container.component(spec, part).map_err(of)?;
        let both = (program.clone(), run.clone());
        let handler = Handler::new(own, both, artifact.weight, Vec::new());
        handler.try_out().await.map_err(|failure| {
            let why = format!("no instance can be made: {}", failure.message());
            of(RuntimeError::new(CREATE_ERROR, why))
        })?;
        handlers.insert(id, handler);
        front.get_or_insert(Front { program, run, weight: artifact.weight });
    }
    let nothing = || RuntimeError::new(CREATE_ERROR, "the Spin application has no components");
    Ok((App::new(app, handlers), front.ok_or_else(nothing)?))
}

impl App {
    /// The handlers are those of [`parts`], under the components' names.
    fn new(app: &SpinApp, handlers: BTreeMap<String, Arc<Handler>>) -> Arc<Self> {
        let made = Arc::new(Self {
            routes: Routes::new(&app.routes),
            handlers,
            calls: Arc::new(Semaphore::new(CALLS)),
        });
        for part in made.handlers.values().filter_map(|handler| handler.container.part.as_ref()) {
            // A part is made for one application, so it has none yet.
            let _ = part.app.set(Arc::downgrade(&made));
        }
        made
    }

    /// Answers with the component whose route applies.
    pub fn handle<B>(
        self: Arc<Self>,
        mut request: Request<B>,
    ) -> BoxFuture<'static, Response<Answer>>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Error>,
    {
        let path = request.uri().path().to_owned();
        let Some(found) = self.routes.find(&path) else {
            let none = text(StatusCode::NOT_FOUND, "no route of the application applies\n");
            return Box::pin(std::future::ready(none));
        };
        let host = request.uri().authority().map(ToString::to_string).or_else(|| {
            let host = request.headers().get(header::HOST)?;
            host.to_str().ok().map(str::to_owned)
        });
        let rest = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
        let full_url = format!("http://{}{rest}", host.as_deref().unwrap_or("localhost"));
        let client = request.extensions().get::<Client>().map(|client| client.0.to_string());
        let client = client.unwrap_or_else(|| NOBODY.to_owned());
        let headers = found.headers(full_url, &client);
        tell(&mut request, headers);
        match self.handlers.get(found.component).cloned() {
            Some(handler) => Box::pin(async move { handler.handle(request).await }),
            // The image was refused if a route led nowhere.
            None => Box::pin(std::future::ready(text(StatusCode::NOT_FOUND, "no component\n"))),
        }
    }
}

/// Sets Spin's headers; what the caller sent under their names is not to be believed.
fn tell<B>(request: &mut Request<B>, headers: Vec<(String, String)>) {
    let sent: Vec<HeaderName> = request.headers().keys().cloned().collect();
    for name in sent.iter().filter(|name| name.as_str().starts_with("spin-")) {
        request.headers_mut().remove(name);
    }
    for (name, value) in headers {
        let name = HeaderName::try_from(name);
        if let (Ok(name), Ok(value)) = (name, HeaderValue::try_from(value)) {
            request.headers_mut().insert(name, value);
        }
    }
}

/// A component's call of its own application: it needs no socket.
pub struct Call {
    to: Callee,
    permit: OwnedSemaphorePermit,
}

enum Callee {
    Component(Arc<Handler>),
    App(Arc<App>),
}

/// Whether a request is to the caller's own application. None: it is to somewhere else. An error was
/// said in the log.
pub fn call(container: &Container, to: &Uri) -> Option<Result<Call, Error>> {
    let part = container.part.as_ref()?;
    let host = to.host().unwrap_or_default().to_ascii_lowercase();
    is_within(&host).then(|| {
        call_within(part, &host).map_err(|(error, why)| {
            container.log.note(&format!("the call to {host} {why}"));
            error
        })
    })
}

fn call_within(part: &Part, host: &str) -> Result<Call, (Error, String)> {
    if !allows(&part.component.allowed_outbound_hosts, host) {
        let why = format!(
            "was refused: component {} has it not among its allowed_outbound_hosts",
            part.component.id
        );
        return Err((Error::HttpRequestDenied, why));
    }
    let app = part.app.get().and_then(Weak::upgrade);
    let app = app.ok_or_else(|| (Error::DestinationUnavailable, "came too late".to_owned()))?;
    let permit =
        app.calls.clone().try_acquire_owned().map_err(|_| {
            (Error::LoopDetected, format!("failed: {CALLS} such calls are under way"))
        })?;
    let to = match host.strip_suffix(INTERNAL) {
        None => Callee::App(app),
        Some(id) => Callee::Component(app.handlers.get(id).cloned().ok_or_else(|| {
            (Error::DestinationNotFound, format!("failed: there is no component {id:?}"))
        })?),
    };
    Ok(Call { to, permit })
}

impl Call {
    pub async fn answer(self, mut request: Request<WasiBody>) -> Result<Response<WasiBody>, Error> {
        let host = request.uri().host().unwrap_or_default().to_owned();
        let path = request.uri().path_and_query().map_or("/", PathAndQuery::as_str).to_owned();
        *request.uri_mut() = path.parse::<Uri>().map_err(|_| Error::HttpRequestUriInvalid)?;
        let value = HeaderValue::try_from(&host).map_err(|_| Error::HttpRequestUriInvalid)?;
        request.headers_mut().insert(header::HOST, value);
        let response = match self.to {
            Callee::App(app) => app.handle(request).await,
            Callee::Component(handler) => {
                let any = SpinRoute { component: String::new(), route: Some(ANY.into()) };
                if let Some(found) = Routes::new(&[any]).find(request.uri().path()) {
                    let headers = found.headers(format!("http://{host}{path}"), NOBODY);
                    tell(&mut request, headers);
                }
                handler.handle(request).await
            }
        };
        // The head is there: the caller can go on.
        drop(self.permit);
        Ok(response.map(BodyExt::boxed_unsync))
    }
}

/// Whether a component may call a name within its application. Those outside are looked at where
/// connections are made.
fn allows(hosts: &[String], name: &str) -> bool {
    hosts.iter().any(|host| {
        let host = name_of(host);
        host == "*"
            || host.eq_ignore_ascii_case(name)
            || (name.ends_with(INTERNAL) && host == "*.spin.internal")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_call_whom_they_name() {
        for (host, name, expected) in [
            ("http://self", "self", true),
            ("self", "self", true),
            ("*://*:*", "self", true),
            ("*://*:*", "db.spin.internal", true),
            ("http://*.spin.internal", "db.spin.internal", true),
            ("http://*.spin.internal", "self", false),
            ("http://db.spin.internal", "db.spin.internal", true),
            ("http://db.spin.internal", "web.spin.internal", false),
            ("https://example.com", "self", false),
        ] {
            assert_eq!(allows(&[host.to_owned()], name), expected, "{host} {name}");
        }
    }
}
