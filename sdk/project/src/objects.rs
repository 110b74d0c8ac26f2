//! The objects that run a component: with no more than it needs and its manifest names.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::{Allowed, Backend, Kind, Manifest};

/// The field manager that applies them.
pub const MANAGER: &str = "windlass";
pub const NAME_LABEL: &str = "app.kubernetes.io/name";
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
const VERSION_LABEL: &str = "app.kubernetes.io/version";
/// The container's name in its pods.
pub const CONTAINER: &str = "component";
const BACKEND_CONTAINER: &str = "backend";
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
            let mut all = manifest
                .backend
                .as_ref()
                .map_or(Vec::new(), |backend| backend_objects(manifest, backend, &place.namespace));
            all.extend([service(manifest, place), deployment(manifest, allowed, place)]);
            all
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

/// Pods of its own, so that it scales, fails and is limited apart from the component. Its container
/// has what it asked for and an unprivileged user needs; a container that needs more is deployed by
/// its owner's own manifests.
fn backend_objects(manifest: &Manifest, backend: &Backend, namespace: &str) -> Vec<Value> {
    let name = Backend::name(&manifest.name);
    let mut labels = labels(manifest);
    labels[NAME_LABEL] = name.as_str().into();
    let metadata = json!({"name": name, "namespace": namespace, "labels": labels});
    let mut container = json!({
        "name": BACKEND_CONTAINER,
        "image": backend.image,
        "ports": [{"name": PORT_NAME, "containerPort": backend.port}],
        "resources": {"limits": {"memory": backend.memory}},
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": true,
            "runAsNonRoot": true,
        },
        "readinessProbe": {"tcpSocket": {"port": PORT_NAME}},
    });
    let variables = variables(&backend.environment);
    if !variables.is_empty() {
        container["env"] = variables.into();
    }
    let mut spec = json!({"automountServiceAccountToken": false, "enableServiceLinks": false});
    let folders = || backend.writable.iter().enumerate();
    if !backend.writable.is_empty() {
        let volumes =
            folders().map(|(n, _)| json!({"name": format!("writable-{n}"), "emptyDir": {}}));
        let mounts = folders()
            .map(|(n, folder)| json!({"name": format!("writable-{n}"), "mountPath": folder}));
        container["volumeMounts"] = mounts.collect();
        spec["volumes"] = volumes.collect();
    }
    spec["containers"] = json!([container]);
    vec![
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {
                "selector": {NAME_LABEL: name},
                "ports": [{"name": PORT_NAME, "port": backend.port, "targetPort": PORT_NAME}],
            },
        }),
        json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {
                "replicas": backend.replicas,
                "selector": {"matchLabels": {NAME_LABEL: name}},
                "template": {"metadata": {"labels": labels}, "spec": spec},
            },
        }),
    ]
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
    let mut variables = variables(&manifest.environment);
    if let Some(backend) = &manifest.backend {
        let url = format!("http://{}:{}", Backend::name(&manifest.name), backend.port);
        variables.push(json!({"name": Backend::VARIABLE, "value": url}));
    }
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

fn variables(environment: &BTreeMap<String, String>) -> Vec<Value> {
    environment.iter().map(|(name, value)| json!({"name": name, "value": value})).collect()
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
    fn a_container_beside_it_has_pods_of_its_own() {
        check(
            "name = 'cart'\nversion = '1.0'\nkind = 'http'\nbuild.language = 'rust'\n\
             [backend]\nimage = 'db:1'\nport = 5432\nwritable = ['/data']\nenvironment.A = 'b'",
            &["cart-backend:5432"],
            &[],
            expect![[r#"
                {
                  "apiVersion": "v1",
                  "kind": "Service",
                  "metadata": {
                    "name": "cart-backend",
                    "namespace": "shop",
                    "labels": {
                      "app.kubernetes.io/name": "cart-backend",
                      "app.kubernetes.io/version": "1.0",
                      "app.kubernetes.io/managed-by": "windlass"
                    }
                  },
                  "spec": {
                    "selector": {
                      "app.kubernetes.io/name": "cart-backend"
                    },
                    "ports": [
                      {
                        "name": "http",
                        "port": 5432,
                        "targetPort": "http"
                      }
                    ]
                  }
                }
                {
                  "apiVersion": "apps/v1",
                  "kind": "Deployment",
                  "metadata": {
                    "name": "cart-backend",
                    "namespace": "shop",
                    "labels": {
                      "app.kubernetes.io/name": "cart-backend",
                      "app.kubernetes.io/version": "1.0",
                      "app.kubernetes.io/managed-by": "windlass"
                    }
                  },
                  "spec": {
                    "replicas": 1,
                    "selector": {
                      "matchLabels": {
                        "app.kubernetes.io/name": "cart-backend"
                      }
                    },
                    "template": {
                      "metadata": {
                        "labels": {
                          "app.kubernetes.io/name": "cart-backend",
                          "app.kubernetes.io/version": "1.0",
                          "app.kubernetes.io/managed-by": "windlass"
                        }
                      },
                      "spec": {
                        "automountServiceAccountToken": false,
                        "enableServiceLinks": false,
                        "volumes": [
                          {
                            "name": "writable-0",
                            "emptyDir": {}
                          }
                        ],
                        "containers": [
                          {
                            "name": "backend",
                            "image": "db:1",
                            "ports": [
                              {
                                "name": "http",
                                "containerPort": 5432
                              }
                            ],
                            "resources": {
                              "limits": {
                                "memory": "128Mi"
                              }
                            },
                            "securityContext": {
                              "allowPrivilegeEscalation": false,
                              "capabilities": {
                                "drop": [
                                  "ALL"
                                ]
                              },
                              "readOnlyRootFilesystem": true,
                              "runAsNonRoot": true
                            },
                            "readinessProbe": {
                              "tcpSocket": {
                                "port": "http"
                              }
                            },
                            "env": [
                              {
                                "name": "A",
                                "value": "b"
                              }
                            ],
                            "volumeMounts": [
                              {
                                "name": "writable-0",
                                "mountPath": "/data"
                              }
                            ]
                          }
                        ]
                      }
                    }
                  }
                }
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
                        "port": 8080,
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
                    "replicas": 1,
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
                          "windlass.dev/allowed-hosts": "cart-backend:5432"
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
                                "name": "BACKEND",
                                "value": "http://cart-backend:5432"
                              }
                            ],
                            "ports": [
                              {
                                "name": "http",
                                "containerPort": 8080
                              }
                            ]
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
