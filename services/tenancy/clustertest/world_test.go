package clustertest

import (
	"context"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/identity/identitytest"
	"github.com/damask-sdn/damask/internal/kube"
	"github.com/damask-sdn/damask/internal/kube/networkv1"
	"github.com/damask-sdn/damask/internal/kubetest"
	"github.com/damask-sdn/damask/internal/natsd"
	"github.com/damask-sdn/damask/internal/rpcdial"
	"github.com/damask-sdn/damask/internal/rpcserve"
	accessv1 "github.com/damask-sdn/damask/proto/damask/access/v1"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/tenancy"
)

const (
	crds = "../../../deploy/crds"
	// rights are those that are shipped: what the service may do in a cluster, and no more.
	rights = "../../../deploy/kustomize/base/rbac/tenancy.yaml"
)

// limit bounds every wait: it matters only when something hangs.
const limit = 90 * time.Second

// world is a cluster, a store, and replicas of the service.
type world struct {
	t        *testing.T
	cluster  *kubetest.Cluster
	client   client.Client
	service  *kubetest.User // what the service speaks to the API server as
	gate     *kubetest.Gate // and through what
	ca       *identitytest.CA
	store    *natsd.Server
	storeDir string
	address  string // of the replica that was started last
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, cluster: kubetest.Start(t), ca: identitytest.New(t), storeDir: t.TempDir()}
	w.cluster.InstallCRDs(t, crds)
	w.service, w.gate = w.cluster.AsServiceAccount(t, rights), w.cluster.NewGate(t)
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, networkv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if w.client, err = client.New(w.cluster.Config(), client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	w.startStore("127.0.0.1:0")
	return w
}

// startStore starts the store, on what its directory has.
func (w *world) startStore(listen string) {
	w.t.Helper()
	store, err := natsd.Start(natsd.ServerConfig{StoreDir: w.storeDir, Listen: listen, Sync: natsd.SyncPeriodic},
		w.ca.Source(w.t, identitytest.Service(w.t, "nats")), hclog.NewNullLogger())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(store.Stop)
	w.store = store
}

// loseStore throws away all that the store has.
func (w *world) loseStore() {
	w.t.Helper()
	listen := w.store.URL()[len("tls://"):]
	w.store.Stop()
	if err := os.RemoveAll(w.storeDir); err != nil {
		w.t.Fatal(err)
	}
	w.startStore(listen)
}

// replica starts a replica of the service.
func (w *world) replica() (stop func()) {
	w.t.Helper()
	return w.replicaBeginning("")
}

// replicaBeginning is replica with the mode of a new cluster.
func (w *world) replicaBeginning(mode string) (stop func()) {
	w.t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	w.address = free.Addr().String()
	if err := free.Close(); err != nil {
		w.t.Fatal(err)
	}
	cfg := tenancy.Config{
		Config: rpcserve.Config{Listen: w.address}, Metrics: "127.0.0.1:0",
		TLS:        w.ca.Files(w.t, identitytest.Service(w.t, "tenancy")),
		NATS:       natsd.Config{Servers: []string{w.store.URL()}, Replicas: 1},
		Kubernetes: kube.Config{Enabled: true, Kubeconfig: w.gate.Kubeconfig(w.t, w.service), QPS: 1000, Burst: 1000},

		InitialIsolationMode: mode,
	}
	log := hclog.New(&hclog.LoggerOptions{Name: "tenancy", Level: hclog.Info, Output: w.t.Output()})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- tenancy.Run(ctx, cfg, log) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("run: %v", err)
		}
	})
	w.t.Cleanup(stop)
	return stop
}

// api is what the tests ask the service.
type api struct {
	tenancyv1.NetNamespaceServiceClient
	tenancyv1.IsolationServiceClient
	tenancyv1.PodRegistryServiceClient
	tenancyv1.NetworkPolicyServiceClient
}

// as connects to the replica that was started last.
func (w *world) as(id identity.ID) api {
	w.t.Helper()
	conn, err := rpcdial.New(rpcdial.Config{
		Addresses: []string{w.address}, Roles: []accessv1.Role{accessv1.Role_ROLE_TENANCY},
	}, w.ca.Source(w.t, id))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = conn.Close() })
	return api{
		tenancyv1.NewNetNamespaceServiceClient(conn), tenancyv1.NewIsolationServiceClient(conn),
		tenancyv1.NewPodRegistryServiceClient(conn), tenancyv1.NewNetworkPolicyServiceClient(conn),
	}
}

func (w *world) operator() api { return w.as(identity.Operator("ann")) }

func (w *world) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	w.t.Cleanup(cancel)
	return ctx
}

// until waits for a condition, and says at the end what was there instead.
func (w *world) until(what string, holds func(ctx context.Context) (is string, ok bool)) {
	w.t.Helper()
	ctx := w.ctx()
	for {
		is, ok := holds(ctx)
		if ok {
			return
		}
		select {
		case <-ctx.Done():
			w.t.Fatalf("%s: it is %s", what, is)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// object answers a NetNamespace; one without a name when there is none.
func (w *world) object(ctx context.Context, name string) *networkv1.NetNamespace {
	object := &networkv1.NetNamespace{}
	err := w.client.Get(ctx, client.ObjectKey{Name: name}, object)
	if client.IgnoreNotFound(err) != nil {
		w.t.Logf("NetNamespace %s: %v", name, err)
	}
	if err != nil {
		return &networkv1.NetNamespace{}
	}
	return object
}

// stored answers what the service has of a namespace; nil when it has nothing.
func (w *world) stored(ctx context.Context, op api, name string) *tenancyv1.NetNamespace {
	got, err := op.GetNetNamespace(ctx, &tenancyv1.GetNetNamespaceRequest{Name: name})
	if err != nil {
		return nil
	}
	return got.GetNetNamespace()
}

// create makes a Namespace, and answers its NetNamespace when it has a VNID.
func (w *world) create(name string) *networkv1.NetNamespace {
	w.t.Helper()
	ns := &corev1.Namespace{}
	ns.Name = name
	if err := w.client.Create(w.ctx(), ns); err != nil {
		w.t.Fatal(err)
	}
	return w.numbered(name)
}

func (w *world) numbered(name string) (object *networkv1.NetNamespace) {
	w.t.Helper()
	w.until("NetNamespace "+name, func(ctx context.Context) (string, bool) {
		object = w.object(ctx, name)
		return "not there", object.Name == name
	})
	return object
}
