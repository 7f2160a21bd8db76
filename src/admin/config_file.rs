//! What of the configuration file does not apply.

use super::exposition::{Exposition, Kind};

/// How the configuration file stands to what is in use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct View {
    /// Why the file as it is now is refused, if it is; one fault a line.
    pub(super) refused: Option<String>,
    /// What has changed in it and takes a restart.
    pub(super) takes_a_restart: Vec<&'static str>,
}

impl View {
    pub(super) fn in_use(takes_a_restart: &[&'static str]) -> Self {
        View { refused: None, takes_a_restart: takes_a_restart.to_vec() }
    }

    /// The same with a file that is refused; what took a restart before takes one still.
    pub(super) fn refused_for(&self, why: &str) -> Self {
        View { refused: Some(why.trim().to_owned()), takes_a_restart: self.takes_a_restart.clone() }
    }

    /// In words, with what to do, one line each.
    pub(super) fn worries(&self) -> Vec<String> {
        let refused = self.refused.as_ref().map(|why| {
            let more = why.lines().count().saturating_sub(1);
            let more = if more == 0 { String::new() } else { format!("; and {more} more") };
            format!(
                "the configuration file is refused and the one in use stays: {}{more}; mend it before the next start, which has \
                 nothing else to go by: `stillgood check` tells everything that is wrong, SIGHUP has it read again",
                why.lines().next().unwrap_or_default()
            )
        });
        let restart = (!self.takes_a_restart.is_empty()).then(|| {
            let what = self.takes_a_restart.join(", ");
            format!("changed in the configuration file, and in use only after a restart: {what}")
        });
        refused.into_iter().chain(restart).collect()
    }

    pub(super) fn metrics(&self, e: &mut Exposition) {
        let help =
            "1: the configuration file is refused, or has changes that take a restart; the words are in /status.json.";
        let mut family = e.family("stillgood_config_fault", Kind::Gauge, help);
        family.sample("", &[("kind", "refused")], u8::from(self.refused.is_some()));
        family.sample("", &[("kind", "restart")], u8::from(!self.takes_a_restart.is_empty()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_is_told_in_one_line_until_the_file_is_in_use() {
        assert!(View::default().worries().is_empty());
        let restart = View::in_use(&["[admin]", "[presign]"]);
        assert_eq!(
            restart.worries(),
            ["changed in the configuration file, and in use only after a restart: [admin], [presign]"]
        );
        let both = restart.refused_for("\nf:1:1: one\nf:2:1: two\nf:3:1: three");
        let worries = both.worries();
        assert_eq!(worries.len(), 2);
        assert!(worries[0].contains(" stays: f:1:1: one; and 2 more; mend it"), "{worries:?}");
        assert!(worries.iter().all(|line| !line.contains('\n')));
        let mut e = Exposition::default();
        both.metrics(&mut e);
        assert!(e.finish().contains("stillgood_config_fault{kind=\"refused\"} 1\n"));
    }
}
