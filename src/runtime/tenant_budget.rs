//! A bounded amount that all tenants share, of which each tenant has at most a part.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A bounded amount of something, such as bytes or requests. It is for work of the management, because it takes a lock.
#[derive(Debug)]
pub struct TenantBudget {
    limit: usize,
    tenant_limit: usize,
    used: Mutex<TenantUse>,
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
        Arc::new(Self { limit, tenant_limit, used: Mutex::default() })
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

    /// The amount in use.
    pub fn in_use(&self) -> usize {
        self.used().all
    }

    fn used(&self) -> MutexGuard<'_, TenantUse> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for TenantShare {
    fn drop(&mut self) {
        let mut used = self.budget.used();
        used.all -= self.amount;
        if let Some(own) = used.of.get_mut(&*self.tenant) {
            *own -= self.amount;
            if *own == 0 {
                used.of.remove(&*self.tenant);
            }
        }
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
}
