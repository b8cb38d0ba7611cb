//! A semaphore that never leaves its thread: that of `local-sync`, by the authors of monoio. For monoio, and for compio, which has
//! none of its own.

use std::rc::Rc;

use local_sync::semaphore::{AcquireError, OwnedSemaphorePermit, Semaphore, SemaphorePermit};

pub(super) type Limit = Rc<Semaphore>;

pub(super) fn limit(permits: usize) -> Limit {
    Rc::new(Semaphore::new(permits))
}

pub(super) fn hold(limit: &Limit) -> impl Future<Output = Result<SemaphorePermit<'_>, AcquireError>> {
    limit.acquire()
}

pub(super) fn permit(
    limit: &Limit,
) -> impl Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + use<> {
    limit.clone().acquire_owned()
}

pub(super) fn granted<T>(permit: Result<T, AcquireError>) -> T {
    permit.unwrap()
}
