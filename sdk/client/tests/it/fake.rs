//! A server whose answers the test writes down: each request takes the next answer of the script,
//! and is logged as one line.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::{Ready, ready},
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{StreamExt, channel::mpsc, stream};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use windlass_sdk_client::Body;

/// One answer of the script.
pub enum Answer {
    Json(u16, &'static str),
    /// A stream that the test feeds line by line, and that ends when the test drops its sender.
    Stream(mpsc::UnboundedReceiver<String>),
}

#[derive(Clone, Default)]
pub struct Fake {
    script: Arc<Mutex<VecDeque<Answer>>>,
    log: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    pub fn new(script: impl IntoIterator<Item = Answer>) -> Self {
        let fake = Self::default();
        fake.script.lock().unwrap().extend(script);
        fake
    }

    pub fn client(&self) -> kube::Client {
        windlass_sdk_client::client(self.clone())
    }

    /// The requests since the last call.
    pub fn log(&self) -> String {
        std::mem::take(&mut *self.log.lock().unwrap()).join("\n")
    }

    pub fn requests(&self) -> usize {
        self.log.lock().unwrap().len()
    }
}

pub fn stream() -> (mpsc::UnboundedSender<String>, Answer) {
    let (sender, receiver) = mpsc::unbounded();
    (sender, Answer::Stream(receiver))
}

type Chunks = stream::BoxStream<'static, Result<Frame<Bytes>, Infallible>>;

impl tower::Service<Request<Body>> for Fake {
    type Response = Response<StreamBody<Chunks>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (parts, body) = request.into_parts();
        let body = futures::executor::block_on(body.collect()).unwrap().to_bytes();
        let body = String::from_utf8_lossy(&body).into_owned();
        let sort = parts.headers.get("content-type").map_or("", |sort| sort.to_str().unwrap());
        let line = [parts.method.as_str(), &parts.uri.to_string(), sort, &body];
        let line: Vec<&str> = line.into_iter().filter(|part| !part.is_empty()).collect();
        self.log.lock().unwrap().push(line.join(" "));
        let next = self.script.lock().unwrap().pop_front();
        let (code, chunks): (u16, Chunks) = match next {
            Some(Answer::Json(code, text)) => (code, chunks([text.to_owned()])),
            Some(Answer::Stream(lines)) => {
                (200, lines.map(|line| Ok(Frame::data(Bytes::from(line + "\n")))).boxed())
            }
            None => (503, chunks([r#"{"message":"end of script"}"#.to_owned()])),
        };
        let mut answer = Response::new(StreamBody::new(chunks));
        *answer.status_mut() = code.try_into().unwrap();
        ready(Ok(answer))
    }
}

fn chunks<I>(texts: I) -> Chunks
where
    I: IntoIterator<Item = String>,
    I::IntoIter: Send + 'static,
{
    stream::iter(texts.into_iter().map(|text| Ok(Frame::data(Bytes::from(text))))).boxed()
}
