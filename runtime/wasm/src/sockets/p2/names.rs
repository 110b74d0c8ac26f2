//! Name look-ups of `wasi:sockets` 0.2.

use std::{
    future::poll_fn,
    net::IpAddr,
    pin::Pin,
    task::{Context, Poll, Waker},
    vec,
};

use futures::FutureExt;
use tokio_util::task::AbortOnDropHandle;
use wasmtime::component::Resource;
use wasmtime_wasi::{
    async_trait,
    p2::{DynPollable, Pollable, subscribe},
};

use super::{
    Network, SocketResult, Sockets,
    bindings::{
        ip_name_lookup,
        network::{ErrorCode, IpAddress},
    },
};
use crate::sockets::ops::{self, Trouble};

/// `resolve-address-stream`.
pub enum ResolveAddressStream {
    Asked(AbortOnDropHandle<Result<Vec<IpAddr>, Trouble>>),
    Answered(Result<vec::IntoIter<IpAddr>, Trouble>),
}

impl ResolveAddressStream {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Self::Asked(task) = self {
            match Pin::new(task).poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(answer) => {
                    let answer = answer.unwrap_or(Err(Trouble::ResolverBusy));
                    *self = Self::Answered(answer.map(Vec::into_iter));
                }
            }
        }
        Poll::Ready(())
    }
}

#[async_trait]
impl Pollable for ResolveAddressStream {
    async fn ready(&mut self) {
        poll_fn(|cx| self.poll(cx)).await;
    }
}

impl ip_name_lookup::Host for Sockets<'_> {
    fn resolve_addresses(
        &mut self,
        network: Resource<Network>,
        name: String,
    ) -> SocketResult<Resource<ResolveAddressStream>> {
        self.table.get(&network)?;
        let mut asking = ops::look_up(self.container.clone(), name).boxed();
        // The cluster's names are known at once.
        let polled = asking.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        let stream = match polled {
            Poll::Ready(answer) => ResolveAddressStream::Answered(Ok(answer?.into_iter())),
            Poll::Pending => {
                ResolveAddressStream::Asked(AbortOnDropHandle::new(tokio::spawn(asking)))
            }
        };
        Ok(self.table.push(stream)?)
    }
}

impl ip_name_lookup::HostResolveAddressStream for Sockets<'_> {
    fn resolve_next_address(
        &mut self,
        this: Resource<ResolveAddressStream>,
    ) -> SocketResult<Option<IpAddress>> {
        let stream = self.table.get_mut(&this)?;
        let _ = stream.poll(&mut Context::from_waker(Waker::noop()));
        match stream {
            ResolveAddressStream::Asked(_) => Err(ErrorCode::WouldBlock.into()),
            ResolveAddressStream::Answered(Ok(addresses)) => {
                Ok(addresses.next().map(IpAddress::from))
            }
            ResolveAddressStream::Answered(Err(trouble)) => Err((*trouble).into()),
        }
    }

    fn subscribe(
        &mut self,
        this: Resource<ResolveAddressStream>,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table, this)
    }

    fn drop(&mut self, this: Resource<ResolveAddressStream>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}
