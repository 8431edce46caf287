//! What made a pod, read off its name: the API says it in the object alone, which the network does not keep.

use crate::pod::Pod;

/// The names of workloads that a pod may be of: `cart` of `cart-0` (StatefulSet, and manifests), `cart-node-1` (a DaemonSet of
/// manifests), `cart-x7bqk` (DaemonSet, ReplicaSet, Job) and `cart-6d4cf56db6-x7bqk` (a Deployment; its ReplicaSet
/// `cart-6d4cf56db6`, too).
pub fn workloads_of(pod: &Pod) -> Vec<&str> {
    let mut names = Vec::new();
    let is_made_up = |part: &str, lengths: std::ops::RangeInclusive<usize>| {
        lengths.contains(&part.len()) && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    let name = pod.key.name();
    if let Some(name) = pod.node.as_ref().and_then(|node| name.strip_suffix(node.as_str())?.strip_suffix('-'))
    {
        names.push(name);
    }
    if let Some((name, last)) = name.rsplit_once('-') {
        if last.bytes().all(|b| b.is_ascii_digit()) && !last.is_empty() {
            names.push(name);
        } else if is_made_up(last, 5..=5) {
            names.push(name);
            if let Some((deployment, hash)) = name.rsplit_once('-')
                && is_made_up(hash, 6..=10)
                && hash.bytes().any(|b| b.is_ascii_digit())
            {
                names.push(deployment);
            }
        }
    }
    names.sort_unstable();
    names.dedup();
    names.retain(|name| !name.is_empty());
    names
}
