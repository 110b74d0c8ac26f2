//! What {{name}} does. This is plain Rust, so `cargo test` runs it on your machine; `component.rs`
//! connects it to `wasi:cli`.

#[cfg(target_family = "wasm")]
mod component;

/// Runs to completion: what it prints, or why it failed. `arguments` are those of `windlass.toml`;
/// `variable` reads the environment.
pub fn run(
    arguments: &[String],
    variable: impl Fn(&str) -> Option<String>,
) -> Result<String, String> {
    let greeting = variable("GREETING").unwrap_or_else(|| "Hello".to_owned());
    match arguments {
        [] => Ok(format!("{greeting} from {{name}}\n")),
        [name] => Ok(format!("{greeting} {name}, from {{name}}\n")),
        more => Err(format!("it takes one name, not {}", more.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(arguments: &[&str], greeting: Option<&str>, expected: Result<&str, &str>) {
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let variable = |name: &str| greeting.filter(|_| name == "GREETING").map(str::to_owned);
        let result = run(&arguments, variable);
        assert_eq!(result, expected.map(str::to_owned).map_err(str::to_owned));
    }

    #[test]
    fn it_greets() {
        check(&[], None, Ok("Hello from {{name}}\n"));
        check(&["Ada"], Some("Welcome"), Ok("Welcome Ada, from {{name}}\n"));
        check(&["Ada", "Grace"], None, Err("it takes one name, not 2"));
    }
}
