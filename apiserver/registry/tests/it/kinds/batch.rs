//! Job and CronJob.

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use windlass_apiserver_registry::{Context, DeleteOptions, Deletion};
use windlass_sdk_meta::Rng;

use super::{changed, created, printed, refused};
use crate::{create, kind_of, now, stored};

const PODS: &str =
    "template: {spec: {restartPolicy: Never, containers: [{name: one, image: 'i:1'}]}}";

pub fn job(more: &str) -> String {
    format!("{{apiVersion: batch/v1, kind: Job, metadata: {{name: a}}, spec: {{{PODS}{more}}}}}")
}

fn cron_job(more: &str) -> String {
    format!(
        "{{apiVersion: batch/v1, kind: CronJob, metadata: {{name: a}}, spec: {{jobTemplate: {{spec: {{{PODS}}}}}{more}}}}}"
    )
}

#[test]
fn a_job_gets_upstreams_defaults() {
    created(
        &job(""),
        expect![[r#"
            kind: Job
            apiVersion: batch/v1
            metadata:
              name: a
              generation: 1
              labels:
                job-name: a
                batch.kubernetes.io/job-name: a
                controller-uid: 0e2c1a00-2aae-413d-ac0f-c8ddfa4e9e14
                batch.kubernetes.io/controller-uid: 0e2c1a00-2aae-413d-ac0f-c8ddfa4e9e14
            spec:
              template:
                metadata:
                  labels:
                    job-name: a
                    batch.kubernetes.io/job-name: a
                    controller-uid: 0e2c1a00-2aae-413d-ac0f-c8ddfa4e9e14
                    batch.kubernetes.io/controller-uid: 0e2c1a00-2aae-413d-ac0f-c8ddfa4e9e14
                spec:
                  containers:
                  - name: one
                    image: i:1
                    resources: {}
                    terminationMessagePath: /dev/termination-log
                    terminationMessagePolicy: File
                    imagePullPolicy: IfNotPresent
                  restartPolicy: Never
                  dnsPolicy: ClusterFirst
                  schedulerName: default-scheduler
                  securityContext: {}
                  terminationGracePeriodSeconds: 30
              completions: 1
              parallelism: 1
              backoffLimit: 6
              completionMode: NonIndexed
              suspend: false
              podReplacementPolicy: TerminatingOrFailed
              manualSelector: false
              selector:
                matchLabels:
                  batch.kubernetes.io/controller-uid: 0e2c1a00-2aae-413d-ac0f-c8ddfa4e9e14
            status: {}
        "#]],
    );
    let short = |more: &str, expected: Expect| {
        let job = create(&job(more)).expect("valid");
        let keys = [
            "parallelism",
            "completions",
            "backoffLimit",
            "podReplacementPolicy",
            "completionMode",
            "scheduling",
        ];
        let shown: Vec<_> = keys.iter().map(|key| format!("{key} {}", job["spec"][*key])).collect();
        expected.assert_eq(&shown.join(", "));
    };
    short(
        ", parallelism: 3",
        expect![[
            r#"parallelism 3, completions null, backoffLimit 6, podReplacementPolicy "TerminatingOrFailed", completionMode "NonIndexed", scheduling null"#
        ]],
    );
    short(
        ", completions: 3",
        expect![[
            r#"parallelism 1, completions 3, backoffLimit 6, podReplacementPolicy "TerminatingOrFailed", completionMode "NonIndexed", scheduling null"#
        ]],
    );
    short(
        ", completions: 3, completionMode: Indexed, backoffLimitPerIndex: 1, podFailurePolicy: {rules: [{action: FailIndex, onPodConditions: [{type: X}]}]}",
        expect![[
            r#"parallelism 1, completions 3, backoffLimit 2147483647, podReplacementPolicy "Failed", completionMode "Indexed", scheduling null"#
        ]],
    );
    short(
        ", scheduling: {}",
        expect![[
            r#"parallelism 1, completions 1, backoffLimit 6, podReplacementPolicy "TerminatingOrFailed", completionMode "NonIndexed", scheduling null"#
        ]],
    );
}

#[test]
fn a_job_finds_its_pods_by_its_uid() {
    refused(
        "{apiVersion: batch/v1, kind: Job, metadata: {name: a}, spec: {selector: {matchLabels: {x: y}}, template: {metadata: {labels: {job-name: b}}, spec: {restartPolicy: Never, containers: [{name: one, image: 'i:1'}]}}}}",
        expect![[r#"
            422 Job.batch "a" is invalid: [spec.template.metadata.labels[job-name]: Invalid value: {"job-name":"b","batch.kubernetes.io/job-name":"a","controller-uid":"0e2c1a00-2aae-413d-ac0f-c8ddfa4e9e14","batch.kubernetes.io/controller-uid":"0e2c1a00-2aae-413d-ac0f-c8ddfa4e9e14"}: must be 'a', spec.selector: Invalid value: {"matchLabels":{"batch.kubernetes.io/controller-uid":"0e2c1a00-2aae-413d-ac0f-c8ddfa4e9e14","x":"y"}}: `selector` not auto-generated, spec.template.metadata.labels: Invalid value: {"batch.kubernetes.io/controller-uid":"0e2c1a00-2aae-413d-ac0f-c8ddfa4e9e14","batch.kubernetes.io/job-name":"a","controller-uid":"0e2c1a00-2aae-413d-ac0f-c8ddfa4e9e14","job-name":"b"}: `selector` does not match template `labels`]
              FieldValueInvalid spec.template.metadata.labels[job-name]
              FieldValueInvalid spec.selector
              FieldValueInvalid spec.template.metadata.labels
        "#]],
    );
    refused(
        "{apiVersion: batch/v1, kind: Job, metadata: {name: a}, spec: {manualSelector: true, template: {metadata: {labels: {a: b}}, spec: {restartPolicy: Never, containers: [{name: one, image: 'i:1'}]}}}}",
        expect![[r#"
            422 Job.batch "a" is invalid: [spec.selector: Required value, spec.template.metadata.labels: Invalid value: {"a":"b"}: `selector` does not match template `labels`]
              FieldValueRequired spec.selector
              FieldValueInvalid spec.template.metadata.labels
        "#]],
    );
    created(
        "{apiVersion: batch/v1, kind: Job, metadata: {name: a}, spec: {manualSelector: true, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {restartPolicy: OnFailure, containers: [{name: one, image: 'i:1'}]}}}}",
        expect![[r#"
            kind: Job
            apiVersion: batch/v1
            metadata:
              name: a
              labels:
                a: b
              generation: 1
            spec:
              selector:
                matchLabels:
                  a: b
              manualSelector: true
              template:
                metadata:
                  labels:
                    a: b
                spec:
                  containers:
                  - name: one
                    image: i:1
                    resources: {}
                    terminationMessagePath: /dev/termination-log
                    terminationMessagePolicy: File
                    imagePullPolicy: IfNotPresent
                  restartPolicy: OnFailure
                  dnsPolicy: ClusterFirst
                  schedulerName: default-scheduler
                  securityContext: {}
                  terminationGracePeriodSeconds: 30
              completions: 1
              parallelism: 1
              backoffLimit: 6
              completionMode: NonIndexed
              suspend: false
              podReplacementPolicy: TerminatingOrFailed
            status: {}
        "#]],
    );
}

#[test]
fn jobs_that_are_refused() {
    refused(
        "{apiVersion: batch/v1, kind: Job, metadata: {name: a}, spec: {parallelism: -1, completions: -1, activeDeadlineSeconds: -1, backoffLimit: -1, ttlSecondsAfterFinished: -1, backoffLimitPerIndex: -1, maxFailedIndexes: -1, managedBy: me, podReplacementPolicy: Never, template: {spec: {containers: [{name: one, image: 'i:1'}]}}}}",
        expect![[r#"
            422 Job.batch "a" is invalid: [spec.parallelism: Invalid value: -1: must be greater than or equal to 0, spec.completions: Invalid value: -1: must be greater than or equal to 0, spec.activeDeadlineSeconds: Invalid value: -1: must be greater than or equal to 0, spec.backoffLimit: Invalid value: -1: must be greater than or equal to 0, spec.ttlSecondsAfterFinished: Invalid value: -1: must be greater than or equal to 0, spec.backoffLimitPerIndex: Invalid value: -1: must be greater than or equal to 0, spec.maxFailedIndexes: Invalid value: -1: must be greater than or equal to 0, spec.managedBy: Invalid value: "me": must be a domain-prefixed path (such as "acme.io/foo"), spec.backoffLimitPerIndex: Invalid value: -1: requires indexed completion mode, spec.maxFailedIndexes: Invalid value: -1: requires indexed completion mode, spec.podReplacementPolicy: Unsupported value: "Never": supported values: "Failed", "TerminatingOrFailed", spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"]
              FieldValueInvalid spec.parallelism
              FieldValueInvalid spec.completions
              FieldValueInvalid spec.activeDeadlineSeconds
              FieldValueInvalid spec.backoffLimit
              FieldValueInvalid spec.ttlSecondsAfterFinished
              FieldValueInvalid spec.backoffLimitPerIndex
              FieldValueInvalid spec.maxFailedIndexes
              FieldValueInvalid spec.managedBy
              FieldValueInvalid spec.backoffLimitPerIndex
              FieldValueInvalid spec.maxFailedIndexes
              FieldValueNotSupported spec.podReplacementPolicy
              FieldValueRequired spec.template.spec.restartPolicy
        "#]],
    );
    refused(
        &job(", completionMode: Sometimes"),
        expect![[r#"
        422 Job.batch "a" is invalid: spec.completionMode: Unsupported value: "Sometimes": supported values: "NonIndexed", "Indexed"
          FieldValueNotSupported spec.completionMode
    "#]],
    );
    refused(
        &job(
            ", completionMode: Indexed, parallelism: 200000, maxFailedIndexes: 1, managedBy: 'A/b c'",
        ),
        expect![[r#"
            422 Job.batch "a" is invalid: [spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified, spec.managedBy: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*'), spec.managedBy: Invalid value: "b c": Invalid path (regex used for validation is '[A-Za-z0-9/\-._~%!$&'()*+,;=:]+'), spec.completions: Required value: when completion mode is Indexed, spec.parallelism: Invalid value: 200000: must be less than or equal to 100000 when completion mode is Indexed]
              FieldValueRequired spec.backoffLimitPerIndex
              FieldValueInvalid spec.managedBy
              FieldValueInvalid spec.managedBy
              FieldValueRequired spec.completions
              FieldValueInvalid spec.parallelism
        "#]],
    );
    refused(
        &job(
            ", completionMode: Indexed, completions: 200000, parallelism: 20000, backoffLimitPerIndex: 1",
        ),
        expect![[r#"
            422 Job.batch "a" is invalid: [spec.maxFailedIndexes: Required value: must be specified when completions is above 100000, spec.parallelism: Invalid value: 20000: must be less than or equal to 10000 when completions are above 100000 and used with backoff limit per index]
              FieldValueRequired spec.maxFailedIndexes
              FieldValueInvalid spec.parallelism
        "#]],
    );
    refused(
        &job(
            ", podFailurePolicy: {rules: [{action: ''}, {action: Ask, onExitCodes: {operator: In, values: [3, 0, 3], containerName: x}, onPodConditions: [{type: '', status: Maybe}]}, {action: FailIndex, onExitCodes: {operator: Near, values: []}}]}",
        ),
        expect![[r#"
            422 Job.batch "a" is invalid: [spec.podFailurePolicy.rules[0].action: Required value: valid values: ["Count" "FailIndex" "FailJob" "Ignore"], spec.podFailurePolicy.rules[0]: Invalid value: specifying one of OnExitCodes and OnPodConditions is required, spec.podFailurePolicy.rules[1].action: Unsupported value: "Ask": supported values: "Count", "FailIndex", "FailJob", "Ignore", spec.podFailurePolicy.rules[1].onExitCodes.containerName: Invalid value: "x": must be one of the container or initContainer names in the pod template, spec.podFailurePolicy.rules[1].onExitCodes.values[1]: Invalid value: 0: must not be 0 for the In operator, spec.podFailurePolicy.rules[1].onExitCodes.values[2]: Duplicate value: 3, spec.podFailurePolicy.rules[1].onExitCodes.values: Invalid value: [3,0,3]: must be ordered, spec.podFailurePolicy.rules[1].onPodConditions[0].type: Invalid value: "": name part must be non-empty, spec.podFailurePolicy.rules[1].onPodConditions[0].type: Invalid value: "": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]'), spec.podFailurePolicy.rules[1].onPodConditions[0].status: Unsupported value: "Maybe": supported values: "False", "True", "Unknown", spec.podFailurePolicy.rules[1]: Invalid value: specifying both OnExitCodes and OnPodConditions is not supported, spec.podFailurePolicy.rules[2].action: Invalid value: "FailIndex": requires the backoffLimitPerIndex to be set, spec.podFailurePolicy.rules[2].onExitCodes.operator: Unsupported value: "Near": supported values: "In", "NotIn", spec.podFailurePolicy.rules[2].onExitCodes.values: Invalid value: []: at least one value is required]
              FieldValueRequired spec.podFailurePolicy.rules[0].action
              FieldValueInvalid spec.podFailurePolicy.rules[0]
              FieldValueNotSupported spec.podFailurePolicy.rules[1].action
              FieldValueInvalid spec.podFailurePolicy.rules[1].onExitCodes.containerName
              FieldValueInvalid spec.podFailurePolicy.rules[1].onExitCodes.values[1]
              FieldValueDuplicate spec.podFailurePolicy.rules[1].onExitCodes.values[2]
              FieldValueInvalid spec.podFailurePolicy.rules[1].onExitCodes.values
              FieldValueInvalid spec.podFailurePolicy.rules[1].onPodConditions[0].type
              FieldValueInvalid spec.podFailurePolicy.rules[1].onPodConditions[0].type
              FieldValueNotSupported spec.podFailurePolicy.rules[1].onPodConditions[0].status
              FieldValueInvalid spec.podFailurePolicy.rules[1]
              FieldValueInvalid spec.podFailurePolicy.rules[2].action
              FieldValueNotSupported spec.podFailurePolicy.rules[2].onExitCodes.operator
              FieldValueInvalid spec.podFailurePolicy.rules[2].onExitCodes.values
        "#]],
    );
    refused(
        "{apiVersion: batch/v1, kind: Job, metadata: {name: a}, spec: {podFailurePolicy: {rules: []}, podReplacementPolicy: TerminatingOrFailed, template: {spec: {restartPolicy: OnFailure, containers: [{name: one, image: 'i:1'}]}}}}",
        expect![[r#"
            422 Job.batch "a" is invalid: [spec.podReplacementPolicy: Unsupported value: "TerminatingOrFailed": supported values: "Failed", spec.template.spec.restartPolicy: Invalid value: "OnFailure": only "Never" is supported when podFailurePolicy is specified]
              FieldValueNotSupported spec.podReplacementPolicy
              FieldValueInvalid spec.template.spec.restartPolicy
        "#]],
    );
    refused(
        &job(", successPolicy: {rules: [{succeededCount: 1}]}"),
        expect![[r#"
            422 Job.batch "a" is invalid: spec.successPolicy: Invalid value: {"Rules":[{"SucceededIndexes":null,"SucceededCount":1}]}: requires indexed completion mode
              FieldValueInvalid spec.successPolicy
        "#]],
    );
    refused(
        &job(
            ", completionMode: Indexed, completions: 4, successPolicy: {rules: [{}, {succeededIndexes: '0-9'}, {succeededCount: 9}, {succeededIndexes: '0,2-3', succeededCount: 4}]}",
        ),
        expect![[r#"
            422 Job.batch "a" is invalid: [spec.successPolicy.rules[0]: Required value: at least one of succeededCount or succeededIndexes must be specified, spec.successPolicy.rules[1].succeededIndexes: Invalid value: "0-9": error parsing succeededIndexes: too large index: "9", spec.successPolicy.rules[2].succeededCount: Invalid value: 9: must be less than or equal to 4 (the number of specified completions), spec.successPolicy.rules[3].succeededCount: Invalid value: 4: must be less than or equal to 3 (the number of indexes in the specified succeededIndexes field)]
              FieldValueRequired spec.successPolicy.rules[0]
              FieldValueInvalid spec.successPolicy.rules[1].succeededIndexes
              FieldValueInvalid spec.successPolicy.rules[2].succeededCount
              FieldValueInvalid spec.successPolicy.rules[3].succeededCount
        "#]],
    );
    refused(
        "{apiVersion: batch/v1, kind: Job, metadata: {name: a.b}, spec: {completionMode: Indexed, completions: 4, template: {spec: {restartPolicy: Never, containers: [{name: one, image: 'i:1'}]}}}}",
        expect![[r#"
            422 Job.batch "a.b" is invalid: metadata.name: Invalid value: "a.b": will not able to create pod with invalid DNS label: a.b-3
              FieldValueInvalid metadata.name
        "#]],
    );
}

#[test]
fn what_an_update_of_a_job_may_touch() {
    let one = stored(&job(""));
    let picked = ["spec.parallelism", "status.active", "metadata.generation"];
    let both = |job: &mut Value| {
        job["spec"]["parallelism"] = json!(3);
        job["status"]["active"] = json!(1);
    };
    changed(
        "",
        &one,
        both,
        &picked,
        expect![[r#"
        spec.parallelism: 3
        status.active: null
        metadata.generation: 2
    "#]],
    );
    changed(
        "status",
        &one,
        both,
        &picked,
        expect![[r#"
        spec.parallelism: 1
        status.active: 1
        metadata.generation: 1
    "#]],
    );
    changed(
        "",
        &one,
        |job| {
            job["spec"]["completions"] = json!(5);
            job["spec"]["completionMode"] = "Indexed".into();
        },
        &[],
        expect![[r#"
            422 Job.batch "a" is invalid: [spec.completions: Invalid value: 5: can only be modified in tandem with spec.parallelism, spec.completionMode: Invalid value: "Indexed": field is immutable]
              FieldValueInvalid spec.completions
              FieldValueInvalid spec.completionMode
        "#]],
    );
    changed(
        "",
        &one,
        |job| job["spec"]["completions"] = json!(5),
        &[],
        expect![[r#"
        422 Job.batch "a" is invalid: spec.completions: Invalid value: 5: field is immutable
          FieldValueInvalid spec.completions
    "#]],
    );
    changed(
        "",
        &one,
        |job| job["spec"]["managedBy"] = "a.b/c".into(),
        &[],
        expect![[r#"
        422 Job.batch "a" is invalid: spec.managedBy: Invalid value: "a.b/c": field is immutable
          FieldValueInvalid spec.managedBy
    "#]],
    );
    let image = |job: &mut Value| {
        job["spec"]["template"]["spec"]["containers"][0]["image"] = "i:2".into();
    };
    let refused_path = |result: Result<Value, windlass_sdk_meta::Status>| {
        let status = result.expect_err("refused");
        let causes = status.details.into_iter().flat_map(|details| details.causes);
        causes.map(|cause| cause.field).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(refused_path(crate::update("", &one, image)), "spec.template");
    let waiting = stored(&job(", suspend: true"));
    assert_eq!(refused_path(crate::update("", &waiting, image)), "spec.template.spec");
    changed(
        "",
        &waiting,
        |job| {
            let template = &mut job["spec"]["template"];
            template["metadata"]["labels"]["x"] = "y".into();
            template["spec"]["nodeSelector"] = json!({"disk": "fast"});
            template["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "1"}});
        },
        &["spec.template.spec.nodeSelector", "metadata.generation"],
        expect![[r#"
            spec.template.spec.nodeSelector: {"disk":"fast"}
            metadata.generation: 2
        "#]],
    );
    let indexed = stored(&job(", completionMode: Indexed, completions: 4, parallelism: 4"));
    changed(
        "",
        &indexed,
        |job| {
            job["spec"]["completions"] = json!(2);
            job["spec"]["parallelism"] = json!(2);
        },
        &["spec.completions"],
        expect![[r#"
            spec.completions: 2
        "#]],
    );
    changed(
        "",
        &indexed,
        |job| job["spec"]["completions"] = json!(2),
        &[],
        expect![[r#"
        422 Job.batch "a" is invalid: spec.completions: Invalid value: 2: can only be modified in tandem with spec.parallelism
          FieldValueInvalid spec.completions
    "#]],
    );
}

#[test]
fn pods_of_a_job_outlive_it_unless_somebody_says_otherwise() {
    let one = stored(&job(""));
    let rng = Rng::seeded(1);
    let cx = Context { now: now(), rng: &rng, user: "" };
    let delete = |policy: Option<&str>| {
        let propagation_policy = policy.map(str::to_owned);
        let options = DeleteOptions { propagation_policy, ..DeleteOptions::default() };
        match kind_of(&one).delete(&one, &options, &cx).expect("possible") {
            Deletion::Mark(tree) => tree["metadata"]["finalizers"].to_string(),
            other => format!("{}", matches!(other, Deletion::Remove(_))),
        }
    };
    assert_eq!(delete(None), r#"["orphan"]"#);
    assert_eq!(delete(Some("Background")), "true");
    assert_eq!(delete(Some("Foreground")), r#"["foregroundDeletion"]"#);
}

#[test]
fn a_cron_job_gets_upstreams_defaults() {
    created(
        &cron_job(", schedule: '*/5 * * * *'"),
        expect![[r#"
        kind: CronJob
        apiVersion: batch/v1
        metadata:
          name: a
          generation: 1
        spec:
          schedule: '*/5 * * * *'
          jobTemplate:
            metadata: {}
            spec:
              template:
                metadata: {}
                spec:
                  containers:
                  - name: one
                    image: i:1
                    resources: {}
                    terminationMessagePath: /dev/termination-log
                    terminationMessagePolicy: File
                    imagePullPolicy: IfNotPresent
                  restartPolicy: Never
                  dnsPolicy: ClusterFirst
                  schedulerName: default-scheduler
                  securityContext: {}
                  terminationGracePeriodSeconds: 30
          concurrencyPolicy: Allow
          failedJobsHistoryLimit: 1
          successfulJobsHistoryLimit: 3
          suspend: false
        status: {}
    "#]],
    );
}

#[test]
fn cron_jobs_that_are_refused() {
    refused(
        &cron_job(""),
        expect![[r#"
        422 CronJob.batch "a" is invalid: spec.schedule: Required value
          FieldValueRequired spec.schedule
    "#]],
    );
    refused(
        &cron_job(
            ", schedule: 'TZ=UTC 99 * * * *', timeZone: Moon/Base, startingDeadlineSeconds: -1, concurrencyPolicy: Wait, successfulJobsHistoryLimit: -1, failedJobsHistoryLimit: -1",
        ),
        expect![[r#"
            422 CronJob.batch "a" is invalid: [spec.schedule: Invalid value: "TZ=UTC 99 * * * *": end of range (99) above maximum (59): 99, spec.schedule: Invalid value: "TZ=UTC 99 * * * *": cannot use TZ or CRON_TZ in schedule, use timeZone field instead, spec.startingDeadlineSeconds: Invalid value: -1: must be greater than or equal to 0, spec.timeZone: Invalid value: "Moon/Base": unknown time zone Moon/Base, spec.concurrencyPolicy: Unsupported value: "Wait": supported values: "Allow", "Forbid", "Replace", spec.successfulJobsHistoryLimit: Invalid value: -1: must be greater than or equal to 0, spec.failedJobsHistoryLimit: Invalid value: -1: must be greater than or equal to 0]
              FieldValueInvalid spec.schedule
              FieldValueInvalid spec.schedule
              FieldValueInvalid spec.startingDeadlineSeconds
              FieldValueInvalid spec.timeZone
              FieldValueNotSupported spec.concurrencyPolicy
              FieldValueInvalid spec.successfulJobsHistoryLimit
              FieldValueInvalid spec.failedJobsHistoryLimit
        "#]],
    );
    refused(
        "{apiVersion: batch/v1, kind: CronJob, metadata: {name: a-very-long-name-of-a-cron-job-that-its-jobs-can-not-have}, spec: {schedule: '@daily', jobTemplate: {spec: {selector: {matchLabels: {a: b}}, manualSelector: true, template: {spec: {containers: [{name: one, image: 'i:1'}]}}}}}}",
        expect![[r#"
            422 CronJob.batch "a-very-long-name-of-a-cron-job-that-its-jobs-can-not-have" is invalid: [spec.jobTemplate.spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never", spec.jobTemplate.spec.selector: Invalid value: {"matchLabels":{"a":"b"}}: `selector` will be auto-generated, spec.jobTemplate.spec.manualSelector: Unsupported value: true: supported values: "nil", "false", metadata.name: Invalid value: "a-very-long-name-of-a-cron-job-that-its-jobs-can-not-have": must be no more than 52 characters]
              FieldValueRequired spec.jobTemplate.spec.template.spec.restartPolicy
              FieldValueInvalid spec.jobTemplate.spec.selector
              FieldValueNotSupported spec.jobTemplate.spec.manualSelector
              FieldValueInvalid metadata.name
        "#]],
    );
}

#[test]
fn what_an_update_of_a_cron_job_may_touch() {
    let one = stored(&cron_job(", schedule: '@daily', timeZone: Europe/Berlin"));
    let both = |job: &mut Value| {
        job["spec"]["suspend"] = json!(true);
        job["status"]["lastScheduleTime"] = "2026-11-23T17:00:00Z".into();
    };
    let picked = ["spec.suspend", "status", "metadata.generation"];
    changed(
        "",
        &one,
        both,
        &picked,
        expect![[r#"
        spec.suspend: true
        status: {}
        metadata.generation: 2
    "#]],
    );
    changed(
        "status",
        &one,
        both,
        &picked,
        expect![[r#"
        spec.suspend: false
        status: {"lastScheduleTime":"2026-11-23T17:00:00Z"}
        metadata.generation: 1
    "#]],
    );
    changed(
        "",
        &one,
        |job| job["spec"]["schedule"] = "now".into(),
        &[],
        expect![[r#"
        422 CronJob.batch "a" is invalid: spec.schedule: Invalid value: "now": expected exactly 5 fields, found 1: [now]
          FieldValueInvalid spec.schedule
    "#]],
    );
}

#[test]
fn rows() {
    printed(
        &job(""),
        "{}",
        expect![
            "a | Running | 0/1 |  | 5m | one | i:1 | batch.kubernetes.io/controller-uid=0e2c1a00-2aae-413d-ac0f-c8ddfa4e9e14"
        ],
    );
    printed(
        &job(", parallelism: 3"),
        "{succeeded: 1, startTime: '2026-11-23T17:00:00Z', conditions: [{type: Failed, status: 'False'}]}",
        expect![
            "a | Running | 1/1 of 3 | 5m | 5m | one | i:1 | batch.kubernetes.io/controller-uid=0e2c1a00-2aae-413d-ac0f-c8ddfa4e9e14"
        ],
    );
    printed(
        &job(", completions: 2"),
        "{succeeded: 2, startTime: '2026-11-23T17:00:00Z', completionTime: '2026-11-23T17:01:30Z', conditions: [{type: Complete, status: 'True'}]}",
        expect![
            "a | Complete | 2/2 | 90s | 5m | one | i:1 | batch.kubernetes.io/controller-uid=0e2c1a00-2aae-413d-ac0f-c8ddfa4e9e14"
        ],
    );
    printed(
        &cron_job(", schedule: '@daily'"),
        "{}",
        expect!["a | @daily | <none> | False | 0 | <none> | 5m | one | i:1 | <none>"],
    );
    printed(
        &cron_job(", schedule: '@daily', timeZone: Etc/UTC, suspend: true"),
        "{active: [{name: b}], lastScheduleTime: '2026-11-23T17:03:00Z'}",
        expect!["a | @daily | Etc/UTC | True | 1 | 2m | 5m | one | i:1 | <none>"],
    );
}

#[test]
fn jobs_are_selected_by_how_many_succeeded() {
    use windlass_sdk_meta::Encoded;
    let tree = stored(&job(""));
    let kind = crate::kind_of(&tree);
    let object = kind.object(Encoded::from_tree(&tree), &tree, 1);
    assert_eq!(kind.field_path("batch", "status.successful"), Some("status.succeeded"));
    assert_eq!(object.field("status.succeeded"), Some("0"));
}
