package main

import (
	"context"
	"fmt"
	"net/http"
	"sort"
	"strings"

	"gopkg.in/go-jose/go-jose.v2/jwt"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsinstall "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/install"
	"k8s.io/apiextensions-apiserver/pkg/registry/customresourcedefinition"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/registry/rest"
	genericapiserver "k8s.io/apiserver/pkg/server"
	serverstorage "k8s.io/apiserver/pkg/server/storage"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/apiserver/pkg/storage/storagebackend/factory"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	restclient "k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	apiregistrationinstall "k8s.io/kube-aggregator/pkg/apis/apiregistration/install"
	apiservicerest "k8s.io/kube-aggregator/pkg/registry/apiservice/etcd"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/controlplane"
	kubeletclient "k8s.io/kubernetes/pkg/kubelet/client"
	admissionregistrationrest "k8s.io/kubernetes/pkg/registry/admissionregistration/rest"
	appsrest "k8s.io/kubernetes/pkg/registry/apps/rest"
	authenticationrest "k8s.io/kubernetes/pkg/registry/authentication/rest"
	authorizationrest "k8s.io/kubernetes/pkg/registry/authorization/rest"
	autoscalingrest "k8s.io/kubernetes/pkg/registry/autoscaling/rest"
	batchrest "k8s.io/kubernetes/pkg/registry/batch/rest"
	certificatesrest "k8s.io/kubernetes/pkg/registry/certificates/rest"
	coordinationrest "k8s.io/kubernetes/pkg/registry/coordination/rest"
	"k8s.io/kubernetes/pkg/registry/core/componentstatus"
	endpointsstore "k8s.io/kubernetes/pkg/registry/core/endpoint/storage"
	limitrangestore "k8s.io/kubernetes/pkg/registry/core/limitrange/storage"
	nodestore "k8s.io/kubernetes/pkg/registry/core/node/storage"
	pvstore "k8s.io/kubernetes/pkg/registry/core/persistentvolume/storage"
	pvcstore "k8s.io/kubernetes/pkg/registry/core/persistentvolumeclaim/storage"
	podstore "k8s.io/kubernetes/pkg/registry/core/pod/storage"
	podtemplatestore "k8s.io/kubernetes/pkg/registry/core/podtemplate/storage"
	controllerstore "k8s.io/kubernetes/pkg/registry/core/replicationcontroller/storage"
	corerest "k8s.io/kubernetes/pkg/registry/core/rest"
	servicestore "k8s.io/kubernetes/pkg/registry/core/service/storage"
	discoveryrest "k8s.io/kubernetes/pkg/registry/discovery/rest"
	eventsrest "k8s.io/kubernetes/pkg/registry/events/rest"
	flowcontrolrest "k8s.io/kubernetes/pkg/registry/flowcontrol/rest"
	networkingrest "k8s.io/kubernetes/pkg/registry/networking/rest"
	noderest "k8s.io/kubernetes/pkg/registry/node/rest"
	policyrest "k8s.io/kubernetes/pkg/registry/policy/rest"
	rbacrest "k8s.io/kubernetes/pkg/registry/rbac/rest"
	resourcerest "k8s.io/kubernetes/pkg/registry/resource/rest"
	schedulingrest "k8s.io/kubernetes/pkg/registry/scheduling/rest"
	storagerest "k8s.io/kubernetes/pkg/registry/storage/rest"
	svmrest "k8s.io/kubernetes/pkg/registry/storagemigration/rest"
	metricsv1 "k8s.io/metrics/pkg/apis/metrics/v1"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
)

// resource is one served path below a group-version: `deployments` or `deployments/scale`.
type resourceFacts struct {
	gv         schema.GroupVersion
	path       string
	kind       schema.GroupVersionKind
	listKind   string
	singular   string
	namespaced bool
	verbs      []string
	shortNames []string
	categories []string
	columns    []metav1.TableColumnDefinition
}

type provider interface {
	NewRESTStorage(serverstorage.APIResourceConfigSource, generic.RESTOptionsGetter) (genericapiserver.APIGroupInfo, error)
}

// scheme is legacyscheme with the kinds of the two API servers that kube-apiserver embeds.
func scheme() *runtime.Scheme { return legacyscheme.Scheme }

func init() {
	apiextensionsinstall.Install(legacyscheme.Scheme)
	apiregistrationinstall.Install(legacyscheme.Scheme)
	for _, add := range []func(*runtime.Scheme) error{metricsv1.AddToScheme, metricsv1beta1.AddToScheme} {
		if err := add(legacyscheme.Scheme); err != nil {
			panic(err)
		}
	}
}

// restOptions gives every store a storage that is never called: only the shape of the store matters.
func restOptions() generic.RESTOptionsGetter {
	config := storagebackend.ConfigForResource{}
	config.EncodeVersioner = schema.GroupVersion{}
	return generic.RESTOptions{
		StorageConfig:  &config,
		ResourcePrefix: "/facts",
		Decorator: func(*storagebackend.ConfigForResource, string, func(runtime.Object) (string, error), func() runtime.Object,
			func() runtime.Object, storage.AttrFunc, storage.IndexerFuncs, *cache.Indexers) (storage.Interface, factory.DestroyFunc, error) {
			return nil, func() {}, nil
		},
	}
}

type noTokens struct{}

func (noTokens) GenerateToken(context.Context, *jwt.Claims, interface{}) (string, error) {
	return "", nil
}

// servedResources lists what kube-apiserver serves by default, in upstream's order of groups sorted by name.
func servedResources() ([]resourceFacts, error) {
	enabled := controlplane.DefaultAPIResourceConfigSource()
	opts := restOptions()
	allow := authorizerfactory.NewAlwaysAllowAuthorizer()
	client := fake.NewSimpleClientset()
	informerFactory := informers.NewSharedInformerFactory(client, 0)
	authn := authenticator.RequestFunc(func(*http.Request) (*authenticator.Response, bool, error) { return nil, false, nil })
	providers := []provider{
		&corerest.GenericConfig{ServiceAccountIssuer: noTokens{}},
		authenticationrest.RESTStorageProvider{Authenticator: authn},
		authorizationrest.RESTStorageProvider{Authorizer: allow},
		autoscalingrest.RESTStorageProvider{},
		batchrest.RESTStorageProvider{},
		certificatesrest.RESTStorageProvider{Authorizer: allow},
		coordinationrest.RESTStorageProvider{},
		discoveryrest.StorageProvider{},
		networkingrest.RESTStorageProvider{},
		noderest.RESTStorageProvider{},
		policyrest.RESTStorageProvider{},
		rbacrest.RESTStorageProvider{Authorizer: allow},
		schedulingrest.RESTStorageProvider{},
		storagerest.RESTStorageProvider{},
		svmrest.RESTStorageProvider{},
		flowcontrolrest.RESTStorageProvider{InformerFactory: informerFactory},
		appsrest.StorageProvider{},
		admissionregistrationrest.RESTStorageProvider{Authorizer: allow, DiscoveryClient: client.Discovery()},
		eventsrest.RESTStorageProvider{},
		resourcerest.RESTStorageProvider{NamespaceClient: client.CoreV1().Namespaces(), Authorizer: allow},
	}
	var found []resourceFacts
	add := func(gv schema.GroupVersion, stores map[string]rest.Storage) error {
		for path := range stores {
			r, err := describe(gv, path, stores)
			if err != nil {
				return fmt.Errorf("%s %s: %w", gv, path, err)
			}
			found = append(found, r)
		}
		return nil
	}
	for _, p := range providers {
		info, err := p.NewRESTStorage(enabled, opts)
		if err != nil {
			return nil, fmt.Errorf("%T: %w", p, err)
		}
		for version, stores := range info.VersionedResourcesStorageMap {
			gv := schema.GroupVersion{Group: info.PrioritizedVersions[0].Group, Version: version}
			if gv.Group == "" {
				if err := addCore(stores, opts); err != nil {
					return nil, err
				}
			}
			if err := add(gv, stores); err != nil {
				return nil, err
			}
		}
	}
	crds, err := customresourcedefinition.NewREST(scheme(), opts)
	if err != nil {
		return nil, err
	}
	if err := add(schema.GroupVersion{Group: apiextensions.GroupName, Version: "v1"}, map[string]rest.Storage{
		"customresourcedefinitions":        crds,
		"customresourcedefinitions/status": customresourcedefinition.NewStatusREST(scheme(), crds),
	}); err != nil {
		return nil, err
	}
	apiServices := apiservicerest.NewREST(scheme(), opts)
	if err := add(schema.GroupVersion{Group: "apiregistration.k8s.io", Version: "v1"}, map[string]rest.Storage{
		"apiservices":        apiServices,
		"apiservices/status": apiservicerest.NewStatusREST(scheme(), apiServices),
	}); err != nil {
		return nil, err
	}
	found = append(found, metricsResources()...)
	sort.Slice(found, func(i, j int) bool {
		a, b := found[i], found[j]
		return a.gv.Group+" "+a.gv.Version+" "+a.path < b.gv.Group+" "+b.gv.Version+" "+b.path
	})
	return found, nil
}

// addCore makes the stores of the core group that upstream wires to the kubelet and to address allocators.
func addCore(stores map[string]rest.Storage, opts generic.RESTOptionsGetter) error {
	nodes, err := nodestore.NewStorage(opts, kubeletclient.KubeletClientConfig{Port: 10250, ReadOnlyPort: 10255}, http.DefaultTransport)
	if err != nil {
		return err
	}
	policy := kubernetes.NewForConfigOrDie(&restclient.Config{Host: "localhost"}).PolicyV1()
	pods, err := podstore.NewStorage(opts, nodes.KubeletConnectionInfo, http.DefaultTransport, policy, authorizerfactory.NewAlwaysAllowAuthorizer())
	if err != nil {
		return err
	}
	services, serviceStatus, serviceProxy, err := servicestore.NewREST(opts, "IPv4", nil, nil, nil, pods.Pod, http.DefaultTransport)
	if err != nil {
		return err
	}
	controllers, err := controllerstore.NewStorage(opts)
	if err != nil {
		return err
	}
	volumes, volumeStatus, err := pvstore.NewREST(opts)
	if err != nil {
		return err
	}
	claims, claimStatus, err := pvcstore.NewREST(opts)
	if err != nil {
		return err
	}
	limits, err := limitrangestore.NewREST(opts)
	if err != nil {
		return err
	}
	endpoints, err := endpointsstore.NewREST(opts)
	if err != nil {
		return err
	}
	templates, err := podtemplatestore.NewREST(opts)
	if err != nil {
		return err
	}
	for path, store := range map[string]rest.Storage{
		"bindings":                      pods.LegacyBinding,
		"componentstatuses":             componentstatus.NewStorage(nil),
		"endpoints":                     endpoints,
		"limitranges":                   limits,
		"nodes":                         nodes.Node,
		"nodes/proxy":                   nodes.Proxy,
		"nodes/status":                  nodes.Status,
		"persistentvolumeclaims":        claims,
		"persistentvolumeclaims/status": claimStatus,
		"persistentvolumes":             volumes,
		"persistentvolumes/status":      volumeStatus,
		"pods":                          pods.Pod,
		"pods/attach":                   pods.Attach,
		"pods/binding":                  pods.Binding,
		"pods/ephemeralcontainers":      pods.EphemeralContainers,
		"pods/eviction":                 pods.Eviction,
		"pods/exec":                     pods.Exec,
		"pods/log":                      pods.Log,
		"pods/portforward":              pods.PortForward,
		"pods/proxy":                    pods.Proxy,
		"pods/resize":                   pods.Resize,
		"pods/status":                   pods.Status,
		"podtemplates":                  templates,
		"replicationcontrollers":        controllers.Controller,
		"replicationcontrollers/scale":  controllers.Scale,
		"replicationcontrollers/status": controllers.Status,
		"services":                      services,
		"services/proxy":                serviceProxy,
		"services/status":               serviceStatus,
	} {
		stores[path] = store
	}
	return nil
}

// metricsResources are served by metrics-server, whose stores are in no package of Kubernetes.
func metricsResources() []resourceFacts {
	var out []resourceFacts
	for _, version := range []string{"v1", "v1beta1"} {
		gv := schema.GroupVersion{Group: "metrics.k8s.io", Version: version}
		for path, kind := range map[string]string{"nodes": "NodeMetrics", "pods": "PodMetrics"} {
			out = append(out, resourceFacts{gv: gv, path: path, kind: gv.WithKind(kind), listKind: kind + "List",
				namespaced: path == "pods", verbs: []string{"get", "list"}})
		}
	}
	return out
}

var connectVerbs = map[string]string{"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}

// describe asks a store which interfaces it has, as upstream's installer does when it writes discovery.
func describe(gv schema.GroupVersion, path string, stores map[string]rest.Storage) (resourceFacts, error) {
	store := stores[path]
	parent := stores[strings.SplitN(path, "/", 2)[0]]
	r := resourceFacts{gv: gv, path: path}
	kind, err := kindOf(gv, store)
	if err != nil {
		return r, err
	}
	r.kind = kind
	if scoper, ok := parent.(rest.Scoper); ok {
		r.namespaced = scoper.NamespaceScoped()
	}
	verbs := sets.New[string]()
	has := func(verb string, ok bool) {
		if ok {
			verbs.Insert(verb)
		}
	}
	_, creater := store.(rest.Creater)
	_, named := store.(rest.NamedCreater)
	has("create", creater || named)
	_, getter := store.(rest.Getter)
	_, getterWithOptions := store.(rest.GetterWithOptions)
	has("get", getter || getterWithOptions)
	lister, isLister := store.(rest.Lister)
	has("list", isLister)
	_, ok := store.(rest.Updater)
	has("update", ok)
	_, ok = store.(rest.Patcher)
	has("patch", ok)
	_, ok = store.(rest.GracefulDeleter)
	has("delete", ok)
	_, ok = store.(rest.CollectionDeleter)
	has("deletecollection", ok)
	_, ok = store.(rest.Watcher)
	has("watch", ok)
	if connecter, ok := store.(rest.Connecter); ok {
		for _, method := range connecter.ConnectMethods() {
			if verb, known := connectVerbs[method]; known {
				verbs.Insert(verb)
			}
		}
	}
	r.verbs = sets.List(verbs)
	if isLister {
		kinds, _, err := scheme().ObjectKinds(lister.NewList())
		if err != nil {
			return r, err
		}
		r.listKind = kinds[0].Kind
	}
	if p, ok := store.(rest.ShortNamesProvider); ok {
		r.shortNames = p.ShortNames()
	}
	if p, ok := store.(rest.CategoriesProvider); ok {
		r.categories = p.Categories()
	}
	if p, ok := store.(rest.SingularNameProvider); ok && !strings.Contains(path, "/") {
		r.singular = p.GetSingularName()
	}
	if convertor, ok := store.(rest.TableConvertor); ok && isLister && !strings.Contains(path, "/") {
		if table, err := convertor.ConvertToTable(context.Background(), lister.NewList(), &metav1.TableOptions{}); err == nil {
			r.columns = table.ColumnDefinitions
		}
	}
	return r, nil
}

func kindOf(gv schema.GroupVersion, store rest.Storage) (schema.GroupVersionKind, error) {
	if p, ok := store.(rest.GroupVersionKindProvider); ok {
		return p.GroupVersionKind(gv), nil
	}
	kinds, _, err := scheme().ObjectKinds(store.New())
	if err != nil {
		return schema.GroupVersionKind{}, err
	}
	for _, kind := range kinds {
		if kind.Group == gv.Group {
			return gv.WithKind(kind.Kind), nil
		}
	}
	return kinds[0], nil
}
