//! The objects that run a component: with no more than it needs and its manifest names.

use serde_json::{Map, Value, json};

use crate::{Allowed, Kind, Manifest};

/// The field manager that applies them.
pub const MANAGER: &str = "windlass";
pub const NAME_LABEL: &str = "app.kubernetes.io/name";
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
const VERSION_LABEL: &str = "app.kubernetes.io/version";
/// The container's name in its pods.
pub const CONTAINER: &str = "component";
const PORT_NAME: &str = "http";

/// Where the objects are, and what they run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub namespace: String,
    pub image: String,
}

/// In the order in which they are applied: the last is the one to follow.
pub fn objects(manifest: &Manifest, allowed: &Allowed, place: &Place) -> Vec<Value> {
    match manifest.kind {
        Kind::Http => {
            vec![service(manifest, place), deployment(manifest, allowed, place)]
        }
        Kind::Command => vec![pod(manifest, allowed, place)],
    }
}

fn service(manifest: &Manifest, place: &Place) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(manifest, place),
        "spec": {
            "selector": {NAME_LABEL: manifest.name},
            "ports": [{"name": PORT_NAME, "port": manifest.run.port, "targetPort": PORT_NAME}],
        },
    })
}

fn deployment(manifest: &Manifest, allowed: &Allowed, place: &Place) -> Value {
    let mut spec = pod_spec(manifest, place);
    let container = &mut spec["containers"][0];
    container["ports"] = json!([{"name": PORT_NAME, "containerPort": manifest.run.port}]);
    if let Some(path) = &manifest.run.health {
        container["readinessProbe"] = json!({"httpGet": {"path": path, "port": PORT_NAME}});
    }
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(manifest, place),
        "spec": {
            "replicas": manifest.run.replicas,
            "selector": {"matchLabels": {NAME_LABEL: manifest.name}},
            "template": {
                "metadata": {"labels": labels(manifest), "annotations": annotations(allowed)},
                "spec": spec,
            },
        },
    })
}

/// A command runs once a deployment of it: what it did is then told by one pod that stays as it is.
fn pod(manifest: &Manifest, allowed: &Allowed, place: &Place) -> Value {
    let mut metadata = metadata(manifest, place);
    metadata["annotations"] = annotations(allowed);
    let mut spec = pod_spec(manifest, place);
    spec["restartPolicy"] = "Never".into();
    if !manifest.run.arguments.is_empty() {
        spec["containers"][0]["args"] = json!(manifest.run.arguments);
    }
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
}

/// What both kinds of component have. A guest has no users, root file system or privileges that a
/// security context could take from it; the account's token and the other services' addresses it
/// would have.
fn pod_spec(manifest: &Manifest, place: &Place) -> Value {
    let variables = manifest.environment.iter();
    let variables: Vec<Value> =
        variables.map(|(name, value)| json!({"name": name, "value": value})).collect();
    let mut container = json!({
        "name": CONTAINER,
        "image": place.image,
        "resources": {"limits": {"memory": manifest.run.memory}},
    });
    if !variables.is_empty() {
        container["env"] = variables.into();
    }
    json!({
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "containers": [container],
    })
}

fn metadata(manifest: &Manifest, place: &Place) -> Value {
    json!({"name": manifest.name, "namespace": place.namespace, "labels": labels(manifest)})
}

fn labels(manifest: &Manifest) -> Value {
    json!({NAME_LABEL: manifest.name, VERSION_LABEL: manifest.version, MANAGED_BY: MANAGER})
}

/// The hosts are always said: without the annotation a pod may call any.
fn annotations(allowed: &Allowed) -> Value {
    let mut said = Map::new();
    said.insert("windlass.dev/allowed-hosts".into(), allowed.hosts.join(",").into());
    // `default` is open to every pod.
    let stores = allowed.keyvalue.iter().map(String::as_str).filter(|name| *name != "default");
    let stores: Vec<&str> = stores.collect();
    if !stores.is_empty() {
        said.insert("windlass.dev/keyvalue-stores".into(), stores.join(",").into());
    }
    said.into()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(manifest: &str, hosts: &[&str], keyvalue: &[&str], expected: Expect) {
        let manifest = Manifest::parse(manifest).expect("a manifest");
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let allowed =
            Allowed { hosts: names(hosts), keyvalue: names(keyvalue), unused: Vec::new() };
        let image = "windlass.local/shop/cart:0123456789ab".to_owned();
        let place = Place { namespace: "shop".into(), image };
        let objects = objects(&manifest, &allowed, &place);
        let shown: Vec<String> = objects.iter().map(|object| format!("{object:#}\n")).collect();
        expected.assert_eq(&shown.concat());
    }

    #[test]
    fn what_answers_http_is_a_service_and_a_deployment() {
        check(
            "name = 'cart'\nversion = '1.0'\nkind = 'http'\nbuild.language = 'rust'\n\
             run = {replicas = 3, port = 80, health = '/healthz'}\nenvironment.MODE = 'fast'",
            &["example.com", "*.example.org:443"],
            &["default", "carts"],
            expect![[r#"
                {
                  "apiVersion": "v1",
                  "kind": "Service",
                  "metadata": {
                    "name": "cart",
                    "namespace": "shop",
                    "labels": {
                      "app.kubernetes.io/name": "cart",
                      "app.kubernetes.io/version": "1.0",
                      "app.kubernetes.io/managed-by": "windlass"
                    }
                  },
                  "spec": {
                    "selector": {
                      "app.kubernetes.io/name": "cart"
                    },
                    "ports": [
                      {
                        "name": "http",
                        "port": 80,
                        "targetPort": "http"
                      }
                    ]
                  }
                }
                {
                  "apiVersion": "apps/v1",
                  "kind": "Deployment",
                  "metadata": {
                    "name": "cart",
                    "namespace": "shop",
                    "labels": {
                      "app.kubernetes.io/name": "cart",
                      "app.kubernetes.io/version": "1.0",
                      "app.kubernetes.io/managed-by": "windlass"
                    }
                  },
                  "spec": {
                    "replicas": 3,
                    "selector": {
                      "matchLabels": {
                        "app.kubernetes.io/name": "cart"
                      }
                    },
                    "template": {
                      "metadata": {
                        "labels": {
                          "app.kubernetes.io/name": "cart",
                          "app.kubernetes.io/version": "1.0",
                          "app.kubernetes.io/managed-by": "windlass"
                        },
                        "annotations": {
                          "windlass.dev/allowed-hosts": "example.com,*.example.org:443",
                          "windlass.dev/keyvalue-stores": "carts"
                        }
                      },
                      "spec": {
                        "automountServiceAccountToken": false,
                        "enableServiceLinks": false,
                        "containers": [
                          {
                            "name": "component",
                            "image": "windlass.local/shop/cart:0123456789ab",
                            "resources": {
                              "limits": {
                                "memory": "64Mi"
                              }
                            },
                            "env": [
                              {
                                "name": "MODE",
                                "value": "fast"
                              }
                            ],
                            "ports": [
                              {
                                "name": "http",
                                "containerPort": 80
                              }
                            ],
                            "readinessProbe": {
                              "httpGet": {
                                "path": "/healthz",
                                "port": "http"
                              }
                            }
                          }
                        ]
                      }
                    }
                  }
                }
            "#]],
        );
    }

    #[test]
    fn what_runs_to_completion_is_a_pod() {
        check(
            "name = 'sum'\nversion = '2'\nkind = 'command'\nbuild.language = 'rust'\n\
             run.arguments = ['1', '2']",
            &[],
            &[],
            expect![[r#"
                {
                  "apiVersion": "v1",
                  "kind": "Pod",
                  "metadata": {
                    "name": "sum",
                    "namespace": "shop",
                    "labels": {
                      "app.kubernetes.io/name": "sum",
                      "app.kubernetes.io/version": "2",
                      "app.kubernetes.io/managed-by": "windlass"
                    },
                    "annotations": {
                      "windlass.dev/allowed-hosts": ""
                    }
                  },
                  "spec": {
                    "automountServiceAccountToken": false,
                    "enableServiceLinks": false,
                    "containers": [
                      {
                        "name": "component",
                        "image": "windlass.local/shop/cart:0123456789ab",
                        "resources": {
                          "limits": {
                            "memory": "64Mi"
                          }
                        },
                        "args": [
                          "1",
                          "2"
                        ]
                      }
                    ],
                    "restartPolicy": "Never"
                  }
                }
            "#]],
        );
    }
}
