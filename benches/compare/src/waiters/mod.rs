//! The cost of an operation by the number of waiters: polyloop's curves, and the same for tokio.

#[path = "../../../waiters/curve.rs"]
mod curve;
#[path = "../../../waiters/tasks.rs"]
mod tasks;
#[path = "../../../waiters/tokens.rs"]
mod tokens;

mod tokio;

/// The table's name.
pub(crate) const TABLE: &str = "waiters";

/// Prints the curves whose names contain `filter`, each of tokio after that of polyloop.
pub(crate) fn print_table(filter: &str) {
    let ours = [tokens::CURVES, tasks::CURVES].into_iter().flatten();
    let curves = ours.flat_map(|ours| {
        let theirs = tokio::CURVES.iter().filter(|theirs| theirs.name == ours.name);
        std::iter::once(ours).chain(theirs)
    });
    curve::print_curves(curves, filter);
}
