//! What an operation costs beside ever more waiters: polyloop's curves, and the same for tokio.

#[path = "../../../waiters/curve.rs"]
mod curve;
#[path = "../../../waiters/tasks.rs"]
mod tasks;
#[path = "../../../waiters/tokens.rs"]
mod tokens;

mod tokio;

/// The table's name.
pub(crate) const TABLE: &str = "waiters";

/// Prints the curves whose names contain `filter`, tokio's after polyloop's of the same name.
pub(crate) fn print_table(filter: &str) {
    let ours = [tokens::CURVES, tasks::CURVES].into_iter().flatten();
    let curves = ours.flat_map(|ours| {
        let theirs = tokio::CURVES.iter().filter(|theirs| theirs.name == ours.name);
        std::iter::once(ours).chain(theirs)
    });
    curve::print_curves(curves, filter);
}
