//! Times as runc prints them: RFC 3339 with nanoseconds, UTC.

use std::time::{SystemTime, UNIX_EPOCH};

/// The present, as `2026-01-31T23:59:59.123456789Z`; zeros at the end of the fraction are left out as Go does.
pub(crate) fn now() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format(now.as_secs() as i64, i64::from(now.subsec_nanos()))
}

/// A time in seconds since 1970 in the same form.
pub(crate) fn at(seconds: u64) -> String {
    format(seconds.min(i64::MAX as u64 / 2) as i64, 0)
}

fn format(seconds: i64, nanoseconds: i64) -> String {
    let (year, month, day) = date(seconds.div_euclid(86400));
    let rest = seconds.rem_euclid(86400);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    let mut text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanoseconds:09}");
    text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
    text.push('Z');
    text
}

/// Year, month and day of a count of days since 1970: the civil calendar in eras of 400 years.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::format;

    #[test]
    fn dates() {
        assert_eq!(format(0, 0), "1970-01-01T00:00:00Z");
        assert_eq!(format(951_782_399, 120_000_000), "2000-02-28T23:59:59.12Z");
        assert_eq!(format(951_782_400, 1), "2000-02-29T00:00:00.000000001Z");
        assert_eq!(format(1_796_083_199, 999_999_999), "2026-11-30T23:59:59.999999999Z");
    }
}
