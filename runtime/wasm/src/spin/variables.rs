//! Variables of a Spin application: the application's, which the container's environment sets
//! (`SPIN_VARIABLE_NAME`), and those of its components, which are templates over them. All are known
//! when the container is started, so one that is missing is told then and not at a request.

use std::collections::BTreeMap;

use windlass_runtime_api::{SpinApp, SpinComponent};

/// What the environment's names of variables begin with.
pub const PREFIX: &str = "SPIN_VARIABLE_";

/// The values of the application's variables. The error names the one that is missing.
pub fn of_app(app: &SpinApp, env: &[(String, String)]) -> Result<BTreeMap<String, String>, String> {
    let set = |name: &str| {
        let name = format!("{PREFIX}{}", name.to_uppercase());
        env.iter().rev().find(|(known, _)| *known == name).map(|(_, value)| value.clone())
    };
    let mut values = BTreeMap::new();
    for variable in &app.variables {
        let name = &variable.name;
        let value = set(name).or(variable.default.clone()).ok_or_else(|| {
            format!(
                "the Spin application needs its variable {name:?}: set {PREFIX}{} in the \
                 container's env{}",
                name.to_uppercase(),
                if variable.secret { ", from a Secret" } else { "" }
            )
        })?;
        values.insert(name.clone(), value);
    }
    Ok(values)
}

/// The values of a component's variables.
pub fn of_component(
    component: &SpinComponent,
    app: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, String> {
    let fill = |(name, template): &(String, String)| match fill(template, app) {
        Ok(value) => Ok((name.clone(), value)),
        Err(why) => Err(format!("the variable {name:?} of component {}: {why}", component.id)),
    };
    component.variables.iter().map(fill).collect()
}

/// Replaces `{{ name }}` by the variable's value.
pub fn fill(template: &str, values: &BTreeMap<String, String>) -> Result<String, String> {
    let (mut out, mut rest) = (String::new(), template);
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) =
            after.split_once("}}").ok_or_else(|| format!("{template:?} lacks its }}}}"))?;
        let name = name.trim();
        let value = values.get(name);
        out.push_str(before);
        out.push_str(value.ok_or_else(|| format!("the application has no variable {name:?}"))?);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use windlass_runtime_api::SpinVariable;

    use super::*;

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn the_environment_sets_variables() {
        let variable = |name: &str, default: Option<&str>| SpinVariable {
            name: name.into(),
            default: default.map(str::to_owned),
            secret: default.is_none(),
        };
        let app = SpinApp {
            variables: vec![variable("greeting", Some("hi")), variable("api_key", None)],
            ..SpinApp::default()
        };
        let missing = of_app(&app, &[pair("SPIN_VARIABLE_GREETING", "ho")]);
        expect_test::expect![[r#"the Spin application needs its variable "api_key": set SPIN_VARIABLE_API_KEY in the container's env, from a Secret"#]].assert_eq(&missing.expect_err("missing"));
        let values = of_app(&app, &[pair("SPIN_VARIABLE_API_KEY", "k")]).expect("all are set");
        assert_eq!(values, [pair("api_key", "k"), pair("greeting", "hi")].into());
        let component = SpinComponent {
            id: "web".into(),
            variables: vec![pair("text", "{{ greeting }}, {{api_key}}!")],
            ..SpinComponent::default()
        };
        let own = of_component(&component, &values).expect("filled");
        assert_eq!(own, [pair("text", "hi, k!")].into());
    }

    #[test]
    fn templates_are_filled() {
        let values = [pair("a", "1")].into();
        for (template, expected) in [
            ("plain", Ok("plain")),
            ("{{a}}{{ a }}", Ok("11")),
            ("{ a }", Ok("{ a }")),
            ("{{ b }}", Err("no variable \"b\"")),
            ("{{ a", Err("lacks its }}")),
        ] {
            match (fill(template, &values), expected) {
                (Ok(value), Ok(expected)) => assert_eq!(value, expected),
                (Err(why), Err(part)) => assert!(why.contains(part), "{why}"),
                (got, _) => panic!("{template}: {got:?}"),
            }
        }
    }
}
