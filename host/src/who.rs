//! Who this process runs for, as lock records name it.

/// `user@host`, as Terraform writes it; either part may be empty.
pub(crate) fn user_at_host() -> String {
    let user = std::env::var("USER")
        .or_else(|_| std::env::var("LOGNAME"))
        .unwrap_or_else(|_| {
            if std::env::var("HOME").is_ok_and(|home| home == "/root") {
                "root".to_owned()
            } else {
                String::new()
            }
        });
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .or_else(|_| std::env::var("HOSTNAME"))
        .unwrap_or_default();
    format!("{user}@{host}")
}
