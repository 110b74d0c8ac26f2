//! Every way to change something passes every stage of the write path.

use windlass_apiserver_server::Stage;

use crate::Cluster;

const WHOLE: [Stage; 10] = [
    Stage::Read,
    Stage::Mutate,
    Stage::Default,
    Stage::MutatingAdmission,
    Stage::DefaultAfterAdmission,
    Stage::Prepare,
    Stage::Validate,
    Stage::ValidatingAdmission,
    Stage::ManagedFields,
    Stage::Commit,
];
/// What is left of them where an object goes: nothing is stored, so nothing is completed.
const DELETION: [Stage; 5] = [
    Stage::Read,
    Stage::Mutate,
    Stage::MutatingAdmission,
    Stage::ValidatingAdmission,
    Stage::Commit,
];

#[tokio::test(start_paused = true)]
async fn every_write_passes_every_stage() {
    let cluster = Cluster::new().await;
    let pod = r#"{"metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"i"}]}}"#;
    let deployment = r#"{"metadata":{"name":"d"},"spec":{"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}"#;
    let binding = r#"{"metadata":{"name":"p"},"target":{"kind":"Node","name":"n"}}"#;
    let pods = "/api/v1/namespaces/default/pods";
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let writes = [
        r#"POST /api/v1/nodes {"metadata":{"name":"n"}}"#.to_owned(),
        r#"POST /api/v1/namespaces/default/serviceaccounts {"metadata":{"name":"default"}}"#.into(),
        format!("POST {pods} {pod}"),
        format!("POST {pods}/p/binding {binding}"),
        format!(r#"PATCH {pods}/p merge {{"metadata":{{"labels":{{"a":"b"}}}}}}"#),
        format!(r#"PATCH {pods}/p json [{{"op":"add","path":"/metadata/labels/c","value":"d"}}]"#),
        format!(r#"PATCH {pods}/p strategic {{"metadata":{{"labels":{{"e":"f"}}}}}}"#),
        format!(r#"PATCH {pods}/p?fieldManager=m apply {{"apiVersion":"v1","kind":"Pod","metadata":{{"labels":{{"g":"h"}}}}}}"#),
        format!(r#"PATCH {pods}/q?fieldManager=m apply {{"apiVersion":"v1","kind":"Pod","spec":{{"containers":[{{"name":"c","image":"i"}}]}}}}"#),
        format!(r#"PATCH {pods}/p/status?fieldManager=m apply {{"apiVersion":"v1","kind":"Pod","status":{{"message":"m"}}}}"#),
        format!(r#"PATCH {pods}/p/status merge {{"status":{{"phase":"Running"}}}}"#),
        format!(r#"PATCH {pods}/p/ephemeralcontainers strategic {{"spec":{{"ephemeralContainers":[{{"name":"e","image":"i"}}]}}}}"#),
        format!("POST {deployments} {deployment}"),
        format!(r#"PATCH {deployments}/d/scale merge {{"spec":{{"replicas":3}}}}"#),
        format!(r#"PUT {deployments}/d/scale {{"metadata":{{"name":"d"}},"spec":{{"replicas":4}}}}"#),
        r#"PUT /apis/coordination.k8s.io/v1/namespaces/default/leases/l {"metadata":{"name":"l"},"spec":{}}"#.into(),
        r#"POST /api/v1/namespaces {"metadata":{"name":"team"}}"#.into(),
        r#"PUT /api/v1/namespaces/team {"metadata":{"name":"team","labels":{"a":"b"}}}"#.into(),
        r#"PUT /api/v1/namespaces/team/status {"metadata":{"name":"team"},"status":{"phase":"Active","conditions":[{"type":"A","status":"True"}]}}"#.into(),
        r#"PUT /api/v1/namespaces/team/finalize {"metadata":{"name":"team"},"spec":{"finalizers":["kubernetes","example.com/f"]}}"#.into(),
    ];
    for write in &writes {
        let answer = cluster.run(write).await;
        assert!(answer.code < 300, "{write}: {}", answer.summary());
        let mut stages = answer.stages.expect("a write").0;
        stages.sort_unstable();
        assert_eq!(stages, WHOLE, "{write}");
    }
    for write in [
        format!("DELETE {pods}/p"),
        format!("DELETE {pods}"),
        format!("DELETE {deployments}/d"),
        "DELETE /api/v1/namespaces/team".into(),
    ] {
        let answer = cluster.run(&write).await;
        assert!(answer.code < 300, "{write}: {}", answer.summary());
        assert_eq!(answer.stages.expect("a write").0, DELETION, "{write}");
    }
}
