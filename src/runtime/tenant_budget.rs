//! A bounded amount that all tenants share, of which each tenant has at most a part.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

/// A bounded amount of something, such as bytes or requests. It is for work of the management, because it takes a lock.
#[derive(Debug)]
pub struct TenantBudget {
    limit: usize,
    tenant_limit: usize,
    used: Mutex<TenantUse>,
    /// Wakes those who wait for a part.
    released: Notify,
}

#[derive(Debug, Default)]
struct TenantUse {
    all: usize,
    /// Only tenants that use something.
    of: HashMap<Box<str>, usize>,
}

/// A part of a [`TenantBudget`]. It is released on drop.
#[derive(Debug)]
pub struct TenantShare {
    budget: Arc<TenantBudget>,
    tenant: Box<str>,
    amount: usize,
}

/// Why a part of a budget is not available.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TenantBudgetError {
    /// The whole budget is in use.
    Exhausted,
    /// The tenant uses its part.
    TenantExhausted,
}

impl TenantBudget {
    /// Creates an unused budget. One tenant uses at most `tenant_limit`.
    pub fn new(limit: usize, tenant_limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, tenant_limit, used: Mutex::default(), released: Notify::new() })
    }

    /// Takes an amount for a tenant. `None` stands for callers of all tenants, who share a part as one tenant does.
    ///
    /// # Errors
    /// If the tenant or all tenants together would use too much.
    pub fn take(self: &Arc<Self>, tenant: Option<&str>, amount: usize) -> Result<TenantShare, TenantBudgetError> {
        let tenant = tenant.unwrap_or("*");
        let mut used = self.used();
        let own = used.of.get(tenant).copied().unwrap_or_default();
        if own + amount > self.tenant_limit {
            return Err(TenantBudgetError::TenantExhausted);
        }
        if used.all + amount > self.limit {
            return Err(TenantBudgetError::Exhausted);
        }
        used.all += amount;
        used.of.insert(tenant.into(), own + amount);
        Ok(TenantShare { budget: Arc::clone(self), tenant: tenant.into(), amount })
    }

    /// Takes an amount for a tenant as soon as it is available, for at most the time `wait`. An amount beyond the part of a
    /// tenant is reduced to this part, so that it is available when the tenant uses nothing else.
    ///
    /// # Errors
    /// If the amount was not available in this time.
    pub async fn take_within(
        self: &Arc<Self>,
        tenant: Option<&str>,
        amount: usize,
        wait: Duration,
    ) -> Result<TenantShare, TenantBudgetError> {
        let amount = amount.min(self.tenant_limit);
        let mut timeout = pin!(tokio::time::sleep(wait));
        loop {
            let mut released = pin!(self.released.notified());
            // A release after the attempt wakes this task.
            released.as_mut().enable();
            let error = match self.take(tenant, amount) {
                Ok(share) => return Ok(share),
                Err(error) => error,
            };
            tokio::select! {
                () = released => {}
                () = &mut timeout => return Err(error),
            }
        }
    }

    /// The amount in use.
    pub fn in_use(&self) -> usize {
        self.used().all
    }

    fn used(&self) -> MutexGuard<'_, TenantUse> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TenantShare {
    /// Reduces the share to `amount`, if it is larger.
    pub fn reduce_to(&mut self, amount: usize) {
        if let Some(less) = self.amount.checked_sub(amount) {
            self.release(less);
        }
    }

    fn release(&mut self, amount: usize) {
        let mut used = self.budget.used();
        self.amount -= amount;
        used.all -= amount;
        if let Some(own) = used.of.get_mut(&*self.tenant) {
            *own -= amount;
            if *own == 0 {
                used.of.remove(&*self.tenant);
            }
        }
        drop(used);
        self.budget.released.notify_waiters();
    }
}

impl Drop for TenantShare {
    fn drop(&mut self) {
        self.release(self.amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_has_a_part_and_all_have_the_whole() {
        let budget = TenantBudget::new(10, 6);
        let first = budget.take(Some("a"), 6).unwrap();
        assert_eq!(budget.take(Some("a"), 1).unwrap_err(), TenantBudgetError::TenantExhausted);
        let second = budget.take(None, 4).unwrap();
        assert_eq!(budget.take(Some("b"), 1).unwrap_err(), TenantBudgetError::Exhausted);
        drop(first);
        budget.take(Some("b"), 6).unwrap();
        drop(second);
        assert_eq!((budget.in_use(), budget.used().of.len()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_waits_until_a_part_is_released_or_its_time_is_over() {
        let wait = Duration::from_secs(5);
        let budget = TenantBudget::new(10, 6);
        let mut first = budget.take_within(Some("a"), 100, wait).await.unwrap();
        assert_eq!(budget.in_use(), 6, "an amount beyond the part of a tenant is reduced");
        assert_eq!(budget.take_within(Some("a"), 1, wait).await.unwrap_err(), TenantBudgetError::TenantExhausted);
        let waits = budget.take_within(Some("a"), 4, wait);
        let releases = async {
            tokio::task::yield_now().await;
            first.reduce_to(2);
            first.reduce_to(3);
        };
        let (second, ()) = tokio::join!(waits, releases);
        assert_eq!(budget.in_use(), 6);
        drop((first, second.unwrap()));
        assert_eq!(budget.in_use(), 0);
    }
}
