//! What the API server makes of pods and refuses: quotas, limit ranges, priorities, disruption
//! budgets; and kinds of other groups as kubectl shows them.

use windlass_tests_e2e::{Kubectl, wait_for};

use crate::shared;

const SECONDS: u64 = 60;

fn pod(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}}}}}\nspec:\n  containers: [{{name: c, image: 'windlass.dev/hello:v1'}}]\n{spec}\n"
    )
}

/// Applies what is refused; what kubectl said.
fn refused(kubectl: &Kubectl, manifest: &str) -> anyhow::Result<String> {
    let output = kubectl.output(&["apply", "-f", "-"], manifest)?;
    assert!(!output.success, "{}", output.stdout);
    Ok(output.stderr)
}

fn until(kubectl: &Kubectl, what: &str, path: &str, wanted: &str) {
    wait_for(&format!("{path} of {what} to be {wanted}"), SECONDS, || {
        (kubectl.jsonpath(what, path).ok()? == wanted).then_some(())
    });
}

#[test]
fn a_quota_holds_and_gives_back() -> anyhow::Result<()> {
    let kubectl = shared().kubectl(37)?.in_new_namespace("quotas")?;
    kubectl.sh("create quota q --hard=pods=1,count/configmaps=2")?;
    until(&kubectl, "quota q", "{.status.used.pods}", "0");
    kubectl.apply(&pod("a", ""))?;
    assert_eq!(kubectl.jsonpath("quota q", "{.status.used.pods}")?, "1");
    let said = refused(&kubectl, &pod("b", ""))?;
    let wanted = "exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1";
    assert!(said.contains(wanted), "{said}");
    // One is the namespace's kube-root-ca.crt.
    kubectl.sh("create configmap one")?;
    let output = kubectl.output(&["create", "configmap", "two"], "")?;
    assert!(
        output.stderr.contains("exceeded quota: q, requested: count/configmaps=1"),
        "{output:?}"
    );
    kubectl.sh("delete pod a")?;
    kubectl.apply(&pod("b", ""))?;
    kubectl.sh("patch quota q --type=merge -p {\"spec\":{\"hard\":{\"pods\":\"3\"}}}")?;
    until(&kubectl, "quota q", "{.status.hard.pods}", "3");
    kubectl.apply(&pod("c", ""))?;
    assert_eq!(kubectl.jsonpath("quota q", "{.status.used.pods}")?, "2");
    Ok(())
}

#[test]
fn limit_ranges_and_priorities_complete_pods() -> anyhow::Result<()> {
    let kubectl = shared().kubectl(37)?.in_new_namespace("limits")?;
    kubectl.apply(
        "apiVersion: v1\nkind: LimitRange\nmetadata: {name: r}\nspec:\n  limits: [{type: Container, default: {memory: 64Mi}, defaultRequest: {cpu: 10m}, max: {memory: 128Mi}}]\n",
    )?;
    kubectl.sh("create priorityclass e2e-high --value=100 --preemption-policy=Never")?;
    kubectl.apply(&pod("a", "  priorityClassName: e2e-high"))?;
    let of = |path: &str| kubectl.jsonpath("pod a", path);
    assert_eq!(of("{.spec.containers[0].resources.limits.memory}")?, "64Mi");
    assert_eq!(of("{.spec.containers[0].resources.requests.cpu}")?, "10m");
    assert_eq!(of("{.spec.priority} {.spec.preemptionPolicy}")?, "100 Never");
    let large = pod("b", "").replace("v1'}", "v1', resources: {limits: {memory: 1Gi}}}");
    let said = refused(&kubectl, &large)?;
    assert!(
        said.contains("maximum memory usage per Container is 128Mi, but limit is 1Gi"),
        "{said}"
    );
    let said = refused(&kubectl, &pod("c", "  priorityClassName: none"))?;
    assert!(said.contains("no PriorityClass with name none was found"), "{said}");
    Ok(())
}

#[test]
fn a_budget_keeps_the_last_pod() -> anyhow::Result<()> {
    let kubectl = shared().kubectl(37)?.in_new_namespace("budgets")?;
    kubectl.sh("create pdb b --selector=app=a --min-available=1")?;
    kubectl.apply(&pod("a", ""))?;
    until(&kubectl, "pdb b", "{.status.currentHealthy}", "1");
    let eviction = r#"{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"a"}}"#;
    let evict = || {
        let path = "/api/v1/namespaces/budgets/pods/a/eviction";
        kubectl.output(&["create", "--raw", path, "-f", "-"], eviction)
    };
    let held = evict()?;
    assert!(!held.success && held.stderr.contains("disruption budget"), "{held:?}");
    kubectl.sh("delete pdb b")?;
    assert!(evict()?.success);
    Ok(())
}

#[test]
fn kinds_of_other_groups_with_kubectl() -> anyhow::Result<()> {
    let kubectl = shared().kubectl(37)?.in_new_namespace("kinds")?;
    kubectl.apply(
        "apiVersion: autoscaling/v1\nkind: HorizontalPodAutoscaler\nmetadata: {name: h}\nspec: {scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: d}, maxReplicas: 3, targetCPUUtilizationPercentage: 60}\n",
    )?;
    let v2 = "{.apiVersion} {.spec.metrics[0].resource.target.averageUtilization}";
    assert_eq!(
        kubectl.jsonpath("horizontalpodautoscalers.v2.autoscaling h", v2)?,
        "autoscaling/v2 60"
    );
    let v1 = "{.apiVersion} {.spec.targetCPUUtilizationPercentage} {.spec.minReplicas}";
    assert_eq!(
        kubectl.jsonpath("horizontalpodautoscalers.v1.autoscaling h", v1)?,
        "autoscaling/v1 60 1"
    );
    let shown = kubectl.sh("get hpa h")?;
    assert!(shown.contains("Deployment/d") && shown.contains("cpu: <unknown>/60%"), "{shown}");

    let request = include_str!("request.b64").trim();
    kubectl.apply(&format!(
        "apiVersion: certificates.k8s.io/v1\nkind: CertificateSigningRequest\nmetadata: {{name: e2e-jane}}\nspec: {{request: {request}, signerName: kubernetes.io/kube-apiserver-client, usages: [client auth]}}\n"
    ))?;
    assert!(kubectl.sh("get csr e2e-jane")?.contains("Pending"));
    kubectl.sh("certificate approve e2e-jane")?;
    let shown = kubectl.sh("get csr e2e-jane")?;
    assert!(shown.contains("Approved") && shown.contains("kubernetes-admin"), "{shown}");

    assert!(kubectl.sh("get apiservices v1.apps")?.contains("Local"));
    assert!(kubectl.sh("get flowschemas exempt")?.contains("exempt"));
    assert!(kubectl.sh("get prioritylevelconfigurations workload-low")?.contains("Limited"));
    let claim = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: c}\nspec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}\n";
    kubectl.apply(claim)?;
    assert_eq!(
        kubectl.jsonpath("pvc c", "{.metadata.finalizers[0]}")?,
        "kubernetes.io/pvc-protection"
    );
    // Nobody uses it, so the controller lets it go.
    kubectl.sh("delete pvc c --timeout=60s")?;
    Ok(())
}
