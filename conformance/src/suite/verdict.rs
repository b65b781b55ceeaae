//! What a program's run says about the runtime: exit status, points and plan,
//! and for a program that prints no point what its silence means.

use serde::{Deserialize, Serialize};

use super::knowledge::{Program, Silence};
use super::run::Run;
use crate::tap::{self, Diagnostic, Document, Point};

/// The verdict on one program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It says that the runtime is right.
    Passed,
    /// It says that the runtime is wrong, or it did not get to say anything.
    Failed,
    /// It tested nothing and says so.
    Skipped,
    /// Its output cannot tell.
    NoVerdict,
}

impl Verdict {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::NoVerdict => "no verdict",
        }
    }
}

/// A point, or a block without one, that says that the runtime is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The number of the point; a block without a point has none.
    pub number: Option<usize>,
    /// What was tested.
    pub description: String,
    /// The requirement's address.
    pub reference: Option<String>,
    /// What went wrong.
    pub error: Option<String>,
}

/// The points of a program, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Points {
    /// Tested and right.
    pub ok: usize,
    /// Tested and wrong.
    pub not_ok: usize,
    /// Not tested.
    pub skipped: usize,
    /// Known to be wrong.
    pub todo: usize,
}

/// The verdict and what led to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// Why it is not `Passed`, each as one sentence.
    pub reasons: Vec<String>,
    /// How many points of each kind.
    pub points: Points,
    /// What failed.
    pub failures: Vec<Failure>,
    /// What was skipped: the reasons, each once, and how many points had it.
    pub skips: Vec<(String, usize)>,
}

/// Judges a run of `program`.
pub fn judge(run: &Run, program: &Program) -> Judgement {
    let documents = tap::parse(&run.stdout);
    let mut judgement = Judgement {
        verdict: Verdict::Passed,
        reasons: Vec::new(),
        points: Points::default(),
        failures: Vec::new(),
        skips: Vec::new(),
    };
    documents.iter().for_each(|document| judgement.count(document));
    judgement.reasons = reasons(run, &documents, &judgement);
    let points = judgement.points;
    let tested = points.ok + points.not_ok + points.todo;
    if !judgement.reasons.is_empty() {
        judgement.verdict = Verdict::Failed;
    } else if tested == 0 && !judgement.skips.is_empty() {
        judgement.verdict = Verdict::Skipped;
        judgement.reasons = judgement.skips.iter().map(|(reason, _)| reason.clone()).collect();
    } else if tested == 0 {
        (judgement.verdict, judgement.reasons) = silence(run, program);
    }
    judgement
}

fn reasons(run: &Run, documents: &[Document], judgement: &Judgement) -> Vec<String> {
    let mut reasons = Vec::new();
    if run.status.is_none() {
        reasons.push(format!("timed out after {} s", run.time.as_secs()));
    }
    reasons.extend(run.failure());
    reasons
        .extend(documents.iter().filter_map(|document| Some(format!("bailed out: {}", document.bail_out.as_ref()?))));
    let failed = judgement.failures.iter().filter(|failure| failure.number.is_some()).count();
    if failed > 0 {
        reasons.push(format!("{failed} of {} points failed", failed + judgement.points.ok));
    }
    reasons.extend(judgement.failures.iter().filter(|failure| failure.number.is_none()).map(|failure| {
        let error = failure.error.as_deref().unwrap_or_default();
        format!("says, without a point: {}", error.lines().next().unwrap_or_default())
    }));
    // Of one that did not get to its end, only that is to be said; and one that printed no TAP has no plan either.
    let is_whole = run.status.is_some_and(|status| status.success());
    let has_tap = documents.iter().any(|document| document.version.is_some() || !document.points.is_empty());
    if is_whole && has_tap {
        reasons.extend(documents.iter().flat_map(|document| document.problems.iter().cloned()));
    }
    reasons
}

/// What the silence of a program that exited with 0 says.
fn silence(run: &Run, program: &Program) -> (Verdict, Vec<String>) {
    match (&program.silence, &program.stderr) {
        (Some((Silence::Success, _)), Some(text)) if !run.stderr.contains(text) => {
            (Verdict::Failed, vec![format!("failed for another reason than {text}")])
        }
        (Some((Silence::Success, _)), _) => (Verdict::Passed, Vec::new()),
        (Some((Silence::Nothing, reason)), _) => (Verdict::NoVerdict, vec![reason.clone()]),
        (None, _) => (Verdict::NoVerdict, vec!["printed no test point".to_owned()]),
    }
}

impl Judgement {
    fn count(&mut self, document: &Document) {
        for point in &document.points {
            match (point.skip_reason(), point.is_failure(), point.ok) {
                (_, true, _) => {
                    self.points.not_ok += 1;
                    self.failures.push(failure(point));
                }
                (Some(reason), ..) => {
                    self.points.skipped += 1;
                    self.skip(reason);
                }
                (None, _, true) => self.points.ok += 1,
                (None, _, false) => self.points.todo += 1,
            }
        }
        if let Some(reason) = document.plan.as_ref().and_then(|plan| plan.skip.as_ref()) {
            self.skip(reason);
        }
        // Some programs say that something is wrong in a block alone.
        self.failures.extend(document.detached.iter().filter_map(|block| {
            let error = block.field("error").filter(|error| !error.is_empty())?;
            let stderr = block.field("stderr").map(|text| format!("\n{text}")).unwrap_or_default();
            Some(Failure {
                number: None,
                description: "a block without a point".to_owned(),
                reference: block.field("reference"),
                error: Some(format!("{error}{stderr}")),
            })
        }));
    }

    fn skip(&mut self, reason: &str) {
        match self.skips.iter_mut().find(|(known, _)| known == reason) {
            Some((_, count)) => *count += 1,
            None => self.skips.push((reason.to_owned(), 1)),
        }
    }
}

fn failure(point: &Point) -> Failure {
    let field = |key| point.diagnostic.as_ref().and_then(|block: &Diagnostic| block.field(key));
    let mut error: Vec<String> = ["error", "stderr"].into_iter().filter_map(field).collect();
    if let (Some(expected), Some(actual)) = (field("expected"), field("actual")) {
        error.push(format!("expected {expected}, actual {actual}"));
    }
    error.extend(point.comments.iter().cloned());
    Failure {
        number: Some(point.number),
        description: point.description.clone(),
        reference: field("reference"),
        error: (!error.is_empty()).then(|| error.join("\n").trim_end().to_owned()),
    }
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
