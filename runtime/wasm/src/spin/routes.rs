//! Which component of a Spin application answers a path, and what it is told about that: the HTTP
//! trigger's rules. Segments are literal, `:name`, or at the end `...`; the more literal a route is,
//! read from the left, the more it applies.

use windlass_runtime_api::SpinRoute;

/// The routes of an application, the most particular first.
#[derive(Debug, Default)]
pub struct Routes(Vec<Route>);

#[derive(Debug)]
struct Route {
    component: String,
    /// As the manifest has it.
    text: String,
    parts: Vec<Part>,
}

/// In the order of how particular they are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Literal(String),
    Name(String),
    End,
    Rest,
}

/// A path that a route applies to.
#[derive(Debug, PartialEq, Eq)]
pub struct Match<'a> {
    pub component: &'a str,
    pub route: &'a str,
    /// The values of `:name` segments.
    pub names: Vec<(&'a str, String)>,
    /// What `...` stands for: empty, or with a slash before it.
    pub path_info: String,
}

impl Routes {
    pub fn new(routes: &[SpinRoute]) -> Self {
        let public = routes.iter().filter_map(|of| Some((of.component.clone(), of.route.clone()?)));
        let mut all: Vec<Route> = public
            .map(|(component, text)| Route { component, parts: parts(&text), text })
            .collect();
        // Of two that are the same the later one holds: sorting keeps their order.
        all.reverse();
        all.sort_by_key(rank);
        Self(all)
    }

    pub fn find(&self, path: &str) -> Option<Match<'_>> {
        let segments = segments(path);
        self.0.iter().find_map(|route| apply(route, &segments, path))
    }
}

fn rank(route: &Route) -> Vec<u8> {
    let kind = |part: &Part| match part {
        Part::Literal(_) => 0,
        Part::Name(_) => 1,
        Part::End => 2,
        Part::Rest => 3,
    };
    route.parts.iter().map(kind).collect()
}

fn segments(path: &str) -> Vec<&str> {
    let inner = path.trim_start_matches('/').trim_end_matches('/');
    if inner.is_empty() { Vec::new() } else { inner.split('/').collect() }
}

fn parts(route: &str) -> Vec<Part> {
    let mut parts: Vec<Part> = segments(route)
        .into_iter()
        .map(|segment| match segment {
            "..." | "*" => Part::Rest,
            segment => match segment.strip_prefix(':') {
                Some(name) => Part::Name(name.to_owned()),
                None => Part::Literal(segment.to_owned()),
            },
        })
        .collect();
    if parts.last() != Some(&Part::Rest) {
        parts.push(Part::End);
    }
    parts
}

fn apply<'a>(route: &'a Route, segments: &[&str], path: &str) -> Option<Match<'a>> {
    let mut names = Vec::new();
    let mut left = segments.iter();
    for part in &route.parts {
        match part {
            Part::Literal(text) => {
                left.next().filter(|segment| *segment == text)?;
            }
            Part::Name(name) => {
                let value = left.next().filter(|segment| !segment.is_empty())?;
                names.push((name.as_str(), (*value).to_owned()));
            }
            Part::End if left.len() > 0 => return None,
            Part::End | Part::Rest => break,
        }
    }
    let rest: Vec<&str> = left.copied().collect();
    let wild = route.parts.last() == Some(&Part::Rest);
    let slash = if wild && path.ends_with('/') { "/" } else { "" };
    let path_info = match rest.join("/") {
        rest if rest.is_empty() => slash.to_owned(),
        rest => format!("/{rest}{slash}"),
    };
    Some(Match { component: &route.component, route: &route.text, names, path_info })
}

impl Match<'_> {
    /// What components expect to be told in headers.
    pub fn headers(&self, full_url: String, client: &str) -> Vec<(String, String)> {
        let prefix = self.route.strip_suffix("/...").unwrap_or(self.route);
        let mut headers = vec![
            ("spin-path-info".to_owned(), self.path_info.clone()),
            ("spin-full-url".to_owned(), full_url),
            ("spin-matched-route".to_owned(), self.route.to_owned()),
            ("spin-base-path".to_owned(), "/".to_owned()),
            ("spin-raw-component-route".to_owned(), self.route.to_owned()),
            ("spin-component-route".to_owned(), prefix.to_owned()),
            ("spin-client-addr".to_owned(), client.to_owned()),
        ];
        headers.extend(self.names.iter().map(|(name, value)| {
            (format!("spin-path-match-{}", name.to_ascii_lowercase()), value.clone())
        }));
        headers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(routes: &[&str], path: &str, expected: Option<(&str, &str)>) {
        let routes: Vec<SpinRoute> = routes
            .iter()
            .map(|route| SpinRoute {
                component: (*route).to_owned(),
                route: Some((*route).to_owned()),
            })
            .collect();
        let routes = Routes::new(&routes);
        let found = routes.find(path);
        let found = found.as_ref().map(|found| (found.component, found.path_info.as_str()));
        assert_eq!(found, expected, "{path}");
    }

    #[test]
    fn the_most_particular_route_applies() {
        let all = ["/...", "/a", "/a/...", "/a/:id", "/a/b", "/a/:id/c", "/a/b/..."];
        check(&all, "/", Some(("/...", "/")));
        check(&all, "/x/y", Some(("/...", "/x/y")));
        check(&all, "/a", Some(("/a", "")));
        check(&all, "/a/", Some(("/a", "")));
        check(&all, "/a/7", Some(("/a/:id", "")));
        check(&all, "/a/b", Some(("/a/b", "")));
        check(&all, "/a/b/c", Some(("/a/b/...", "/c")));
        check(&all, "/a/7/c", Some(("/a/:id/c", "")));
        check(&all, "/a/7/d/", Some(("/a/...", "/7/d/")));
        check(&["/a"], "/b", None);
        check(&["/a"], "/a/b", None);
        check(&["/"], "/", Some(("/", "")));
        check(&["/"], "/a", None);
        check(&["/a/:id"], "/a/", None);
        check(&["/a/..."], "/a", Some(("/a/...", "")));
        check(&["/a/..."], "/ab", None);
    }

    #[test]
    fn components_are_told_what_matched() {
        let routes = Routes::new(&[
            SpinRoute { component: "private".into(), route: None },
            SpinRoute { component: "old".into(), route: Some("/users/:Id/...".into()) },
            SpinRoute { component: "users".into(), route: Some("/users/:Id/...".into()) },
        ]);
        let found = routes.find("/users/42/posts").expect("a route");
        assert_eq!(found.component, "users");
        let headers = found.headers("http://h/users/42/posts?q".into(), "127.0.0.1:1");
        let text: Vec<String> =
            headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        expect_test::expect![[r#"
            spin-path-info: /posts
            spin-full-url: http://h/users/42/posts?q
            spin-matched-route: /users/:Id/...
            spin-base-path: /
            spin-raw-component-route: /users/:Id/...
            spin-component-route: /users/:Id
            spin-client-addr: 127.0.0.1:1
            spin-path-match-id: 42"#]]
        .assert_eq(&text.join("\n"));
    }
}
