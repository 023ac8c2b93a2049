//! Parallel mapping on several threads, in order.

use std::thread;

/// Maps each item, on at most `threads_max` threads. The results are in the order of the items. A panic of `map` is
/// resumed on the calling thread.
pub fn parallel_map<T: Send, R: Send>(items: Vec<T>, threads_max: usize, map: impl Fn(T) -> R + Sync) -> Vec<R> {
    let threads = thread::available_parallelism().map_or(1, |cores| cores.get().min(threads_max)).max(1);
    let part_len = items.len().div_ceil(threads).max(1);
    let mut parts = Vec::with_capacity(threads);
    let mut rest = items;
    while rest.len() > part_len {
        let tail = rest.split_off(part_len);
        parts.push(std::mem::replace(&mut rest, tail));
    }
    let map = &map;
    let run = move |part: Vec<T>| part.into_iter().map(map).collect::<Vec<_>>();
    thread::scope(|scope| {
        let others: Vec<_> = parts.into_iter().map(|part| scope.spawn(move || run(part))).collect();
        let last = run(rest);
        let mut all = Vec::new();
        for other in others {
            match other.join() {
                Ok(mapped) => all.extend(mapped),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all.extend(last);
        all
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_the_order_of_the_items_whatever_their_number() {
        for count in 0..20u32 {
            let doubled: Vec<_> = (0..count).map(|n| n * 2).collect();
            assert_eq!(parallel_map((0..count).collect(), 3, |n| n * 2), doubled);
        }
    }
}
