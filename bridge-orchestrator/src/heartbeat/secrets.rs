//! Which keys look as if a secret stood behind them.

/// Parts of names, without what separates words.
const SECRET: [&str; 15] = [
    "accesskey",
    "apikey",
    "authorization",
    "bearer",
    "connectionstring",
    "cookie",
    "credential",
    "passphrase",
    "passwd",
    "password",
    "privatekey",
    "pwd",
    "secret",
    "sessionid",
    "token",
];

/// Whether a key of metadata looks like that of a secret, whatever its case and its way to separate words.
pub(super) fn looks_secret(key: &str) -> bool {
    let letters: String = key.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    letters == "auth" || letters == "dsn" || SECRET.iter().any(|part| letters.contains(part))
}
