//! The door for components in the same process: the server as a tower service that carries an
//! identity. The identity is a request extension of a type that only this crate can make, and
//! extensions don't travel over a wire, so no network request can claim one.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::body::Body;
use bytes::Bytes;
use http::{Request, Response};
use tower::Service;
use windlass_apiserver_access::User;

use crate::{ApiServer, chain};

/// The API server as one component sees it.
#[derive(Clone)]
pub struct LocalService {
    server: Arc<ApiServer>,
    user: Arc<User>,
}

/// Where a request came in, and what that says about who sent it.
#[derive(Clone)]
pub(crate) enum Caller {
    Component(Arc<User>),
    /// Over TLS; the certificate's user, or why it isn't accepted.
    Peer(Option<Result<Arc<User>, String>>),
}

impl ApiServer {
    /// The server for a component of this process: all it sends is from `user`, and authorised
    /// like anybody's.
    pub fn local(self: &Arc<Self>, user: User) -> LocalService {
        LocalService { server: self.clone(), user: Arc::new(user) }
    }
}

impl<B> Service<Request<B>> for LocalService
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let server = self.server.clone();
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Caller::Component(self.user.clone()));
        Box::pin(async move { Ok(chain::handle(&server, request).await) })
    }
}
