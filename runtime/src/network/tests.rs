//! What of networks needs no plugins and no namespaces.

use super::*;
use serde_json::{Value, json};

fn places(dir: &Path) -> Places {
    Places {
        config: dir.join("net.d"),
        plugins: dir.join("bin").to_str().unwrap().to_owned(),
        cache: dir.join("cache"),
    }
}
