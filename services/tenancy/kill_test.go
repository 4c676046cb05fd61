package tenancy

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/bus"
	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/identity/identitytest"
	"github.com/damask-sdn/damask/internal/natsd"
	"github.com/damask-sdn/damask/internal/replicatest"
	"github.com/damask-sdn/damask/internal/rpcdial"
	accessv1 "github.com/damask-sdn/damask/proto/damask/access/v1"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

const (
	killTenants  = 10_000
	killReplicas = 4
	killClients  = 16
	// killEvery is how many answered requests lie between two kills.
	killEvery = 300
)

// TestKilledReplicasNeverShareOrLeakAVNID creates 10,000 namespaces through
// four replicas, each a process, that are killed (SIGKILL) in turn all the
// while. Of each ten, one is deleted again, one joins another and one is made
// global. In the end the store must hold exactly what the clients know.
func TestKilledReplicasNeverShareOrLeakAVNID(t *testing.T) {
	ca := identitytest.New(t)
	server, err := natsd.Start(natsd.ServerConfig{StoreDir: t.TempDir(), Listen: "127.0.0.1:0"},
		ca.Source(t, identitytest.Service(t, "nats")), hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	tls := ca.Files(t, identitytest.Service(t, "tenancy"))
	var processes []*replicatest.Replica
	var addresses []string
	for i := range killReplicas {
		p, address := startProcess(t, i+1, tls, server.URL())
		processes, addresses = append(processes, p), append(addresses, address)
	}
	conn, err := rpcdial.New(rpcdial.Config{
		Addresses: addresses, Roles: []accessv1.Role{accessv1.Role_ROLE_TENANCY},
	}, ca.Source(t, identity.Operator("ann")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })

	w := &workload{client: newClient(conn), want: map[string]bool{}}
	if err := replicatest.Again(w.create("tenant-0")); err != nil { // others join it
		t.Fatal(err)
	}
	work := replicatest.Work{Replicas: processes, Lives: killTenants, Clients: killClients, Life: w.tenant, KillEvery: killEvery}
	if kills := work.Do(t); kills < 20 {
		t.Errorf("only %d kills, the test proves little", kills)
	}
	w.compare(t, read(t, server, ca.Source(t, identitytest.Service(t, "tenancy"))))
}

// workload is what the clients know.
type workload struct {
	client client

	mu   sync.Mutex
	want map[string]bool // namespaces that must be there
}

func (w *workload) create(name string) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := w.client.CreateNetNamespace(ctx, &tenancyv1.CreateNetNamespaceRequest{Name: name})
		return err
	}
}

// tenant is the life of one namespace.
func (w *workload) tenant(i int, call replicatest.Call) {
	name := fmt.Sprintf("tenant-%d", i)
	call(name, w.create(name))
	switch i % 10 {
	case 3:
		call(name, func(ctx context.Context) error {
			_, err := w.client.DeleteNetNamespace(ctx, &tenancyv1.DeleteNetNamespaceRequest{Name: name})
			return err
		})
		return
	case 5:
		call(name, func(ctx context.Context) error {
			_, err := w.client.JoinNetNamespace(ctx, &tenancyv1.JoinNetNamespaceRequest{Name: name, Target: "tenant-0"})
			return err
		})
	case 7:
		call(name, func(ctx context.Context) error {
			_, err := w.client.MakeNetNamespaceGlobal(ctx, &tenancyv1.MakeNetNamespaceGlobalRequest{Name: name})
			return err
		})
	}
	w.mu.Lock()
	w.want[name] = true
	w.mu.Unlock()
}

// read answers the store's content through a view of its own.
func read(t *testing.T, server *natsd.Server, source *identity.Source) bucket.Snapshot {
	t.Helper()
	nc, err := natsd.Connect([]string{server.URL()}, source, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	b, err := bucket.Open(soon(t), js, nc, bucket.Config{Name: natsd.BucketName(serviceName), Subject: bus.Prefix(serviceName)}, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = b.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	if err := b.Refresh(soon(t)); err != nil {
		t.Fatal(err)
	}
	return b.Snapshot()
}
