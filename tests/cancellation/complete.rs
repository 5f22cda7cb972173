//! Checks completeness against the sources: every public function that returns a future is dropped by a
//! case, or excluded here with a reason, and documents its cancel safety.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The crates that have futures.
const CRATES: [&str; 2] = ["executor/src", "net/src"];

/// The functions that the cases of the other modules drop.
fn shown() -> BTreeSet<&'static str> {
    let lists: &[&[&str]] = &[
        crate::tasks::SHOWN,
        crate::channels::across_threads::SHOWN,
        crate::channels::on_one_thread::SHOWN,
        crate::streams::SHOWN,
        crate::streams::read_tcp::SHOWN,
        crate::streams::read_unix::SHOWN,
        crate::streams::read_pipe::SHOWN,
        crate::streams::read_half::SHOWN,
        crate::streams::read_owned_half::SHOWN,
        crate::streams::peek_tcp::SHOWN,
        crate::streams::peek_unix::SHOWN,
        crate::streams::peek_half::SHOWN,
        crate::streams::write_tcp::SHOWN,
        crate::streams::write_unix::SHOWN,
        crate::streams::write_pipe::SHOWN,
        crate::streams::write_half::SHOWN,
        crate::streams::write_owned_half::SHOWN,
        crate::sockets::SHOWN,
        #[cfg(not(target_vendor = "apple"))]
        crate::sockets::seqpacket::SHOWN,
        crate::bytes::SHOWN,
        #[cfg(any(target_os = "linux", target_os = "android"))]
        crate::bytes::linux::SHOWN,
        #[cfg(any(
            target_os = "linux",
            target_os = "android",
            target_os = "freebsd",
            target_vendor = "apple"
        ))]
        crate::bytes::files::SHOWN,
        crate::services::SHOWN,
        crate::services::SIGNALS_SHOWN,
    ];
    lists.iter().copied().flatten().copied().collect()
}

/// The functions that no case drops, and why.
const EXCLUDED: &[(&str, &str)] = &[];

/// A function that returns a future, or a type that is one, or a stream.
#[derive(Debug)]
struct Found {
    file: PathBuf,
    line: usize,
    /// Whether its documentation has a section `# Cancel safety`.
    says_what_is_lost: bool,
    /// The named future that it returns.
    returns: Option<String>,
}

/// Finds the public asynchronous items in the sources, by name: `function`, `Type::function`,
/// `macro!::function` for functions that a macro defines for several types, `Type` for a named future,
/// and `Type as Stream`.
fn found() -> BTreeMap<String, Found> {
    let mut files = Vec::new();
    for room in CRATES {
        source_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join(room), &mut files);
    }
    let texts: Vec<_> =
        files.into_iter().map(|file| (fs::read_to_string(&file).unwrap(), file)).collect();
    let mut named: BTreeSet<String> = BTreeSet::new();
    let mut streams: BTreeSet<String> = BTreeSet::new();
    for (text, _) in &texts {
        named.extend(text.lines().filter_map(|line| implementor(line, "Future")));
        streams.extend(text.lines().filter_map(|line| implementor(line, "Stream")));
    }
    let mut found = BTreeMap::new();
    for (text, file) in &texts {
        read_file(text, file, &named, &streams, &mut found);
    }
    found
}

fn source_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            source_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Returns the type that an unindented line implements `which` for.
fn implementor(line: &str, which: &str) -> Option<String> {
    if !line.starts_with("impl") {
        return None;
    }
    let (_, rest) = line.split_once(&format!("{which} for "))?;
    Some(first_word(rest))
}

fn first_word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// Adds the items of one file.
fn read_file(
    text: &str,
    file: &Path,
    named: &BTreeSet<String>,
    streams: &BTreeSet<String>,
    found: &mut BTreeMap<String, Found>,
) {
    let (mut owner, mut in_trait, mut docs) = (None, false, String::new());
    let mut of_macro: Option<String> = None;
    let lines: Vec<&str> = text.lines().collect();
    for (i, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        if *line == "#[cfg(test)]" || line.starts_with("#[cfg(all(test") {
            // Tests follow.
            break;
        }
        if *line == "}" {
            (owner, in_trait, of_macro) = (None, false, None);
        } else if let Some(name) = code.strip_prefix("macro_rules! ") {
            of_macro = Some(format!("{}!", first_word(name)));
        } else if code.starts_with("impl") && (of_macro.is_some() || code == *line) {
            // Further indented ones are inside functions.
            owner = of_macro.clone().or_else(|| Some(implemented(code)));
        } else if let Some(name) = line.strip_prefix("pub trait ") {
            (owner, in_trait) = (Some(first_word(name)), true);
        }
        if let Some(doc) = code.strip_prefix("///") {
            docs.push_str(doc);
            docs.push('\n');
            continue;
        }
        let says_what_is_lost = docs.contains("# Cancel safety");
        let mut add = |name: String, returns| {
            let line = i + 1;
            let new = Found { file: file.to_owned(), line, says_what_is_lost, returns };
            let old = found.insert(name.clone(), new);
            assert!(old.is_none(), "two functions have the name `{name}`: {old:?}");
        };
        if let Some(name) = code.strip_prefix("pub struct ").map(first_word) {
            if named.contains(&name) {
                add(name, None);
            } else if streams.contains(&name) {
                add(format!("{name} as Stream"), None);
            }
        }
        let is_public = code.starts_with("pub async fn ")
            || code.starts_with("pub fn ")
            || in_trait && (code.starts_with("fn ") || code.starts_with("async fn "));
        if is_public {
            let name = first_word(code.split_once("fn ").unwrap().1);
            let name = owner.iter().fold(name, |name, owner| format!("{owner}::{name}"));
            if code.contains("async fn ") {
                add(name, None);
            } else if let Some(output) = returned(&lines[i..]) {
                if output == "impl" {
                    add(name, None);
                } else if named.contains(&output) {
                    add(name, Some(output));
                }
            }
        }
        // Attributes may follow the documentation.
        if !code.starts_with("#[") {
            docs.clear();
        }
    }
}

/// Returns the type of an `impl`.
fn implemented(code: &str) -> String {
    let code = code.split_once(" for ").map_or(code, |(_, of)| of);
    let code = code.trim_start_matches("impl");
    // After the type's parameters, if it has any.
    let mut depth = 0;
    let name = code.char_indices().find(|(_, c)| {
        depth += i32::from(*c == '<') - i32::from(*c == '>');
        depth == 0 && c.is_alphabetic()
    });
    first_word(&code[name.map_or(0, |(i, _)| i)..])
}

/// Returns the first word of the return type of the function that starts here: `impl`, or the name of a
/// type.
fn returned(lines: &[&str]) -> Option<String> {
    let n_lines = lines.iter().position(|line| line.trim_end().ends_with(['{', ';']))?;
    let signature = lines[..=n_lines].join(" ");
    // After the arguments, whose closures have arrows too.
    let end = end_of_arguments(&signature)?;
    let (_, output) = signature[end..].split_once("->")?;
    let output = output.trim().trim_start_matches("io::Result<").trim_start_matches("Option<");
    match output.strip_prefix("impl ") {
        Some(output) if !output.starts_with("Future") => None,
        _ => Some(first_word(output)),
    }
}

/// Finds the closing parenthesis of the arguments.
fn end_of_arguments(signature: &str) -> Option<usize> {
    let mut depth = 0;
    let ends = |(i, c): (usize, char)| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        (c == ')' && depth == 0).then_some(i)
    };
    signature.char_indices().find_map(ends)
}

#[test]
fn every_future_of_the_library_is_dropped_at_every_poll_or_excluded_with_a_reason() {
    let (found, shown) = (found(), shown());
    // A much smaller number would mean that the parser no longer works.
    assert!(found.len() > 90, "only {} were found: {:?}", found.len(), found.keys());
    let excluded: BTreeMap<_, _> = EXCLUDED.iter().copied().collect();
    let missing: Vec<String> = found
        .iter()
        .filter(|(name, _)| !shown.contains(name.as_str()) && !excluded.contains_key(name.as_str()))
        .map(|(name, found)| format!("{name} ({}:{})", found.file.display(), found.line))
        .collect();
    assert!(missing.is_empty(), "no case drops these:\n{}", missing.join("\n"));
    let stale: Vec<_> =
        shown.iter().chain(excluded.keys()).filter(|name| !found.contains_key(**name)).collect();
    assert!(stale.is_empty(), "these are not in the sources: {stale:?}");
    let twice: Vec<_> = excluded.keys().filter(|name| shown.contains(*name)).collect();
    assert!(twice.is_empty(), "these are excluded and also dropped: {twice:?}");
    assert!(EXCLUDED.iter().all(|(_, reason)| !reason.is_empty()));
}

#[test]
fn every_future_of_the_library_documents_its_cancel_safety() {
    let found = found();
    let says = |name: &str| found.get(name).is_some_and(|found| found.says_what_is_lost);
    let mut silent = Vec::new();
    for (name, here) in &found {
        // A named future documents it, or the functions that return it do. A stream documents it at its method
        // that returns one item.
        let by_type = here.returns.as_deref().is_some_and(says);
        let by_function = found
            .values()
            .any(|function| function.returns.as_ref() == Some(name) && function.says_what_is_lost);
        let stream = name.strip_suffix(" as Stream");
        let by_method = stream.is_some_and(|stream| {
            ["next", "recv", "tick", "join_next"]
                .iter()
                .any(|method| says(&format!("{stream}::{method}")))
        });
        if !(here.says_what_is_lost || by_type || by_function || by_method) {
            silent.push(format!("{name} ({}:{})", here.file.display(), here.line));
        }
    }
    assert!(silent.is_empty(), "no section `# Cancel safety`:\n{}", silent.join("\n"));
}
