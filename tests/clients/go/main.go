// A client of the kind that most of Kubernetes is written as: typed clients that speak protobuf,
// informers, server-side apply, discovery. It is given a kubeconfig and an empty namespace, prints a
// line for each thing that holds, and ends with an error at the first that doesn't.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	openapi "github.com/google/gnostic-models/openapiv2"
	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	applyapps "k8s.io/client-go/applyconfigurations/apps/v1"
	apply "k8s.io/client-go/applyconfigurations/core/v1"
	applymeta "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/pager"
)

const protobuf = "application/vnd.kubernetes.protobuf"

// media counts the answers by their type: what this program shows must not have been shown in JSON.
type media struct {
	mutex sync.Mutex
	seen  map[string]int
}

func (m *media) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(request *http.Request) (*http.Response, error) {
		response, err := next.RoundTrip(request)
		if err == nil {
			m.mutex.Lock()
			m.seen[response.Header.Get("Content-Type")]++
			m.mutex.Unlock()
		}
		return response, err
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(request *http.Request) (*http.Response, error) { return f(request) }

type program struct {
	clients   *kubernetes.Clientset
	metadata  metadata.Interface
	dynamic   dynamic.Interface
	namespace string
	media     *media
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: clients KUBECONFIG NAMESPACE")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(kubeconfig, namespace string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	seen := &media{seen: map[string]int{}}
	config.ContentType = protobuf
	config.AcceptContentTypes = protobuf + ",application/json"
	config.QPS, config.Burst = 1000, 1000
	config.Wrap(seen.wrap)
	clients, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	metadata, err := metadata.NewForConfig(rest.CopyConfig(config))
	if err != nil {
		return err
	}
	dynamic, err := dynamic.NewForConfig(rest.CopyConfig(config))
	if err != nil {
		return err
	}
	p := program{clients, metadata, dynamic, namespace, seen}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Second)
	defer cancel()
	steps := []struct {
		name string
		run  func(context.Context) error
	}{
		{"informers see what typed clients do", p.informers},
		{"server-side apply owns, conflicts and gives up fields", p.apply},
		{"applied fields are extracted again", p.extract},
		{"lists come in chunks", p.chunks},
		{"errors are read", p.failures},
		{"metadata alone is listed and watched", p.metadataOnly},
		{"a kind that came at run time is watched and applied", p.customKind},
		{"discovery and OpenAPI are read", p.discovery},
		{"all of it was protobuf", p.wasProtobuf},
	}
	for _, step := range steps {
		if err := step.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		fmt.Println(step.name)
	}
	return nil
}

// expect waits for one event of a kind.
func expect(ctx context.Context, events <-chan string, wanted string) error {
	for {
		select {
		case event := <-events:
			if event == wanted {
				return nil
			}
		case <-ctx.Done():
			return fmt.Errorf("no %q: %w", wanted, ctx.Err())
		}
	}
}

func (p *program) informers(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	maps := p.clients.CoreV1().ConfigMaps(p.namespace)
	before := &core.ConfigMap{ObjectMeta: meta.ObjectMeta{Name: "before"}}
	if _, err := maps.Create(ctx, before, meta.CreateOptions{}); err != nil {
		return err
	}
	events := make(chan string, 100)
	tell := func(event string, object any) {
		if tombstone, ok := object.(cache.DeletedFinalStateUnknown); ok {
			object = tombstone.Obj
		}
		one := object.(*core.ConfigMap)
		if one.Name != "kube-root-ca.crt" {
			events <- event + " " + one.Name + one.Data["k"]
		}
	}
	factory := informers.NewSharedInformerFactoryWithOptions(p.clients, 0, informers.WithNamespace(p.namespace))
	informer := factory.Core().V1().ConfigMaps()
	_, err := informer.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { tell("add", object) },
		UpdateFunc: func(_, object any) { tell("update", object) },
		DeleteFunc: func(object any) { tell("delete", object) },
	})
	if err != nil {
		return err
	}
	factory.Start(ctx.Done())
	for kind, synced := range factory.WaitForCacheSync(ctx.Done()) {
		if !synced {
			return fmt.Errorf("%v is not in sync", kind)
		}
	}
	if err := expect(ctx, events, "add before"); err != nil {
		return err
	}
	made, err := maps.Create(ctx, &core.ConfigMap{
		ObjectMeta: meta.ObjectMeta{Name: "a"}, Data: map[string]string{"k": "=1"},
		BinaryData: map[string][]byte{"bytes": {0, 255, 1}},
	}, meta.CreateOptions{})
	if err != nil {
		return err
	}
	if made.UID == "" || made.CreationTimestamp.IsZero() || made.BinaryData["bytes"][1] != 255 {
		return fmt.Errorf("what was made: %v", made)
	}
	if err := expect(ctx, events, "add a=1"); err != nil {
		return err
	}
	made.Data["k"] = "=2"
	if _, err := maps.Update(ctx, made, meta.UpdateOptions{}); err != nil {
		return err
	}
	if err := expect(ctx, events, "update a=2"); err != nil {
		return err
	}
	if _, err := maps.Update(ctx, made, meta.UpdateOptions{}); !apierrors.IsConflict(err) {
		return fmt.Errorf("an update of an old revision: %v", err)
	}
	patch := []byte(`{"data":{"k":"=3"}}`)
	if _, err := maps.Patch(ctx, "a", types.StrategicMergePatchType, patch, meta.PatchOptions{}); err != nil {
		return err
	}
	if err := expect(ctx, events, "update a=3"); err != nil {
		return err
	}
	uid := made.UID
	options := meta.DeleteOptions{Preconditions: &meta.Preconditions{UID: &uid}}
	if err := maps.Delete(ctx, "a", options); err != nil {
		return err
	}
	if err := expect(ctx, events, "delete a=3"); err != nil {
		return err
	}
	listed, err := informer.Lister().ConfigMaps(p.namespace).List(labels.Everything())
	if err != nil || len(listed) == 0 {
		return fmt.Errorf("the lister has %v: %w", listed, err)
	}
	return nil
}

func (p *program) apply(ctx context.Context) error {
	maps := p.clients.CoreV1().ConfigMaps(p.namespace)
	wish := func(data map[string]string) *apply.ConfigMapApplyConfiguration {
		return apply.ConfigMap("applied", p.namespace).WithData(data)
	}
	as := func(manager string, force bool) meta.ApplyOptions {
		return meta.ApplyOptions{FieldManager: manager, Force: force}
	}
	one := map[string]string{"mine": "1", "shared": "1"}
	if _, err := maps.Apply(ctx, wish(one), as("one", false)); err != nil {
		return err
	}
	two := map[string]string{"shared": "2"}
	_, err := maps.Apply(ctx, wish(two), as("two", false))
	var status apierrors.APIStatus
	if !errors.As(err, &status) || !apierrors.IsConflict(err) {
		return fmt.Errorf("what another manager owns: %v", err)
	}
	causes := status.Status().Details.Causes
	if len(causes) != 1 || causes[0].Type != meta.CauseTypeFieldManagerConflict || causes[0].Field != ".data.shared" {
		return fmt.Errorf("causes of the conflict: %v", causes)
	}
	if _, err := maps.Apply(ctx, wish(two), as("two", true)); err != nil {
		return err
	}
	found, err := maps.Apply(ctx, wish(map[string]string{}), as("one", false))
	if err != nil {
		return err
	}
	if _, kept := found.Data["mine"]; kept || found.Data["shared"] != "2" {
		return fmt.Errorf("after giving up: %v", found.Data)
	}
	return nil
}

func (p *program) extract(ctx context.Context) error {
	deployments := p.clients.AppsV1().Deployments(p.namespace)
	container := apply.Container().WithName("c").WithImage("windlass.dev/hello:v1").
		WithPorts(apply.ContainerPort().WithContainerPort(8080).WithProtocol(core.ProtocolTCP))
	wanted := applyapps.Deployment("d", p.namespace).WithSpec(applyapps.DeploymentSpec().
		WithReplicas(0).
		WithSelector(applymeta.LabelSelector().WithMatchLabels(map[string]string{"app": "d"})).
		WithTemplate(apply.PodTemplateSpec().WithLabels(map[string]string{"app": "d"}).
			WithSpec(apply.PodSpec().WithContainers(container))))
	made, err := deployments.Apply(ctx, wanted, meta.ApplyOptions{FieldManager: "extractor"})
	if err != nil {
		return err
	}
	mine, err := applyapps.ExtractDeployment(made, "extractor")
	if err != nil {
		return err
	}
	containers := mine.Spec.Template.Spec.Containers
	if len(containers) != 1 || *containers[0].Image != "windlass.dev/hello:v1" || containers[0].TerminationMessagePath != nil {
		return fmt.Errorf("extracted: %v", mine)
	}
	return nil
}

func (p *program) chunks(ctx context.Context) error {
	secrets := p.clients.CoreV1().Secrets(p.namespace)
	const count = 25
	for number := range count {
		secret := &core.Secret{
			ObjectMeta: meta.ObjectMeta{GenerateName: "s-", Labels: map[string]string{"n": fmt.Sprint(number)}},
			Data:       map[string][]byte{"k": []byte(strings.Repeat("x", 10_000))},
		}
		if _, err := secrets.Create(ctx, secret, meta.CreateOptions{}); err != nil {
			return err
		}
	}
	pages := pager.New(pager.SimplePageFunc(func(options meta.ListOptions) (runtime.Object, error) {
		return secrets.List(ctx, options)
	}))
	pages.PageSize = 10
	seen := 0
	err := pages.EachListItem(ctx, meta.ListOptions{}, func(object runtime.Object) error {
		if len(object.(*core.Secret).Data["k"]) == 10_000 {
			seen++
		}
		return nil
	})
	if err != nil || seen != count {
		return fmt.Errorf("%d of %d: %w", seen, count, err)
	}
	if err := secrets.DeleteCollection(ctx, meta.DeleteOptions{}, meta.ListOptions{}); err != nil {
		return err
	}
	left, err := secrets.List(ctx, meta.ListOptions{})
	if err != nil || len(left.Items) != 0 {
		return fmt.Errorf("%d are left: %w", len(left.Items), err)
	}
	return nil
}

func (p *program) failures(ctx context.Context) error {
	maps := p.clients.CoreV1().ConfigMaps(p.namespace)
	_, err := maps.Get(ctx, "none", meta.GetOptions{})
	if !apierrors.IsNotFound(err) || err.Error() != `configmaps "none" not found` {
		return fmt.Errorf("one that isn't there: %v", err)
	}
	bad := &core.ConfigMap{ObjectMeta: meta.ObjectMeta{Name: "Not A Name"}}
	_, err = maps.Create(ctx, bad, meta.CreateOptions{})
	if !apierrors.IsInvalid(err) {
		return fmt.Errorf("a bad name: %v", err)
	}
	_, err = maps.List(ctx, meta.ListOptions{Continue: "rubbish"})
	if !apierrors.IsBadRequest(err) {
		return fmt.Errorf("a bad token: %v", err)
	}
	dry := &core.ConfigMap{ObjectMeta: meta.ObjectMeta{Name: "dry"}}
	if _, err := maps.Create(ctx, dry, meta.CreateOptions{DryRun: []string{meta.DryRunAll}}); err != nil {
		return err
	}
	if _, err := maps.Get(ctx, "dry", meta.GetOptions{}); !apierrors.IsNotFound(err) {
		return fmt.Errorf("a dry run: %v", err)
	}
	return nil
}

func (p *program) metadataOnly(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	resource := core.SchemeGroupVersion.WithResource("configmaps")
	list, err := p.metadata.Resource(resource).Namespace(p.namespace).List(ctx, meta.ListOptions{})
	if err != nil || len(list.Items) == 0 {
		return fmt.Errorf("listed %v: %w", list, err)
	}
	events := make(chan string, 100)
	informer := metadatainformer.NewFilteredMetadataInformer(p.metadata, resource, p.namespace, 0, cache.Indexers{}, nil)
	_, err = informer.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(object any) { events <- object.(*meta.PartialObjectMetadata).Name },
	})
	if err != nil {
		return err
	}
	go informer.Informer().Run(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), informer.Informer().HasSynced) {
		return errors.New("the informer is not in sync")
	}
	one := &core.ConfigMap{ObjectMeta: meta.ObjectMeta{Name: "light"}}
	if _, err := p.clients.CoreV1().ConfigMaps(p.namespace).Create(ctx, one, meta.CreateOptions{}); err != nil {
		return err
	}
	return expect(ctx, events, "light")
}

// tree is an object as dynamic clients write it.
type tree = map[string]any

// boats defines the kind that customKind uses; the group is this program's own.
func boats() *unstructured.Unstructured {
	spec := tree{"type": "object", "properties": tree{"sails": tree{"type": "integer", "default": int64(1)}, "port": tree{"type": "string"}}}
	status := tree{"type": "object", "properties": tree{"afloat": tree{"type": "boolean"}}}
	version := tree{"name": "v1", "served": true, "storage": true, "subresources": tree{"status": tree{}},
		"schema": tree{"openAPIV3Schema": tree{"type": "object", "properties": tree{"spec": spec, "status": status}}}}
	return &unstructured.Unstructured{Object: tree{
		"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
		"metadata": tree{"name": "boats.go.example.com"},
		"spec": tree{"group": "go.example.com", "scope": "Namespaced",
			"names":    tree{"plural": "boats", "singular": "boat", "kind": "Boat"},
			"versions": []any{version}},
	}}
}

func (p *program) customKind(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	definitions := p.dynamic.Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
	definition, err := definitions.Create(ctx, boats(), meta.CreateOptions{})
	if err != nil {
		return err
	}
	of := schema.GroupVersionResource{Group: "go.example.com", Version: "v1", Resource: "boats"}
	boats := p.dynamic.Resource(of).Namespace(p.namespace)
	served := func(ctx context.Context) (bool, error) {
		_, err := boats.List(ctx, meta.ListOptions{})
		return err == nil, nil
	}
	if err := wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, 20*time.Second, true, served); err != nil {
		return fmt.Errorf("the kind is not served: %w", err)
	}
	events := make(chan string, 100)
	tell := func(event string, object any) {
		boat := object.(*unstructured.Unstructured)
		sails, _, _ := unstructured.NestedInt64(boat.Object, "spec", "sails")
		events <- fmt.Sprint(event, " ", boat.GetName(), " ", sails)
	}
	factory := dynamicinformer.NewFilteredDynamicSharedInformerFactory(p.dynamic, 0, p.namespace, nil)
	informer := factory.ForResource(of).Informer()
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { tell("add", object) },
		UpdateFunc: func(_, object any) { tell("update", object) },
		DeleteFunc: func(object any) { tell("delete", object) },
	}); err != nil {
		return err
	}
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		return errors.New("the informer is not in sync")
	}
	wish := func(spec tree) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: tree{"apiVersion": "go.example.com/v1", "kind": "Boat", "metadata": tree{"name": "ark"}, "spec": spec}}
	}
	if _, err := boats.Apply(ctx, "ark", wish(tree{"port": "ararat"}), meta.ApplyOptions{FieldManager: "one"}); err != nil {
		return err
	}
	// The schema's default is there, and nobody's.
	if err := expect(ctx, events, "add ark 1"); err != nil {
		return err
	}
	if _, err := boats.Apply(ctx, "ark", wish(tree{"sails": int64(2)}), meta.ApplyOptions{FieldManager: "two"}); err != nil {
		return err
	}
	if err := expect(ctx, events, "update ark 2"); err != nil {
		return err
	}
	_, err = boats.Apply(ctx, "ark", wish(tree{"port": "ararat", "sails": int64(3)}), meta.ApplyOptions{FieldManager: "one"})
	if !apierrors.IsConflict(err) || !strings.Contains(err.Error(), `conflict with "two": .spec.sails`) {
		return fmt.Errorf("what another manager owns: %v", err)
	}
	status := wish(tree{"sails": int64(9)})
	status.Object["status"] = tree{"afloat": true}
	found, err := boats.ApplyStatus(ctx, "ark", status, meta.ApplyOptions{FieldManager: "captain"})
	if err != nil {
		return err
	}
	afloat, _, _ := unstructured.NestedBool(found.Object, "status", "afloat")
	sails, _, _ := unstructured.NestedInt64(found.Object, "spec", "sails")
	if !afloat || sails != 2 {
		return fmt.Errorf("after its status was applied: %v", found.Object)
	}
	if err := boats.Delete(ctx, "ark", meta.DeleteOptions{}); err != nil {
		return err
	}
	if err := expect(ctx, events, "delete ark 2"); err != nil {
		return err
	}
	return definitions.Delete(ctx, definition.GetName(), meta.DeleteOptions{})
}

func (p *program) discovery(context.Context) error {
	_, resources, err := p.clients.Discovery().ServerGroupsAndResources()
	if err != nil || len(resources) < 10 {
		return fmt.Errorf("%d resources: %w", len(resources), err)
	}
	document, err := p.clients.Discovery().OpenAPISchema()
	if err != nil {
		return err
	}
	pod := definition(document, "io.k8s.api.core.v1.PodSpec")
	if pod == nil || len(pod.GetDescription()) == 0 {
		return fmt.Errorf("the schema of a pod's spec: %v", pod)
	}
	for _, property := range pod.GetProperties().GetAdditionalProperties() {
		if property.Name != "containers" {
			continue
		}
		items := property.Value.GetItems().GetSchema()
		strategy := ""
		for _, extension := range property.Value.GetVendorExtension() {
			strategy += extension.Name + ": " + strings.TrimSpace(extension.Value.Yaml) + "; "
		}
		wanted := `x-kubernetes-patch-merge-key: "name"`
		if len(items) != 1 || items[0].XRef != "#/definitions/io.k8s.api.core.v1.Container" || !strings.Contains(strategy, wanted) {
			return fmt.Errorf("containers: %v %s", items, strategy)
		}
	}
	patches := 0
	for _, path := range document.GetPaths().GetPath() {
		if path.Value.GetPatch() != nil && len(path.Value.GetPatch().GetConsumes()) >= 3 {
			patches++
		}
	}
	if patches < 20 {
		return fmt.Errorf("%d paths can be patched", patches)
	}
	paths, err := p.clients.Discovery().OpenAPIV3().Paths()
	if err != nil {
		return err
	}
	bytes, err := paths["apis/apps/v1"].Schema("application/json")
	if err != nil || !strings.Contains(string(bytes), "io.k8s.api.apps.v1.Deployment") {
		return fmt.Errorf("version 3 of apps/v1: %w", err)
	}
	return nil
}

func definition(document *openapi.Document, name string) *openapi.Schema {
	for _, schema := range document.GetDefinitions().GetAdditionalProperties() {
		if schema.Name == name {
			return schema.Value
		}
	}
	return nil
}

func (p *program) wasProtobuf(context.Context) error {
	p.media.mutex.Lock()
	defer p.media.mutex.Unlock()
	if p.media.seen[protobuf] < 40 || p.media.seen[protobuf+";stream=watch"] < 2 {
		return fmt.Errorf("answers by type: %v", p.media.seen)
	}
	return nil
}
