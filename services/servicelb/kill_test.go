package servicelb

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/identity/identitytest"
	"github.com/damask-sdn/damask/internal/replicatest"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
)

const (
	killServices = 900
	killReplicas = 3
	killClients  = 8
	// killEvery is how many answered requests lie between two kills.
	killEvery = 80
)

// TestKilledReplicasNeverShareOrLeakAnything creates services through replicas,
// each a process, that are killed (SIGKILL) in turn all the while. Some are
// deleted again, some lose their node port. In the end the store must hold
// exactly what the clients know, and claims for exactly that.
func TestKilledReplicasNeverShareOrLeakAnything(t *testing.T) {
	sys := newSystem(t)
	tls := sys.ca.Files(t, identitytest.Service(t, serviceName))
	var processes []*replicatest.Replica
	var addresses []string
	for i := range killReplicas {
		p, address := startProcess(t, i+1, tls, sys.store.URL(), large())
		processes, addresses = append(processes, p), append(addresses, address)
	}
	w := &workload{client: sys.as(identity.Operator("ann"), addresses...)}
	work := replicatest.Work{Replicas: processes, Lives: killServices, Clients: killClients, Life: w.service, KillEvery: killEvery}
	if kills := work.Do(t); kills < 8 {
		t.Errorf("only %d kills, the test proves little", kills)
	}
	got := audit(t, sys.read())
	slices.Sort(got)
	if slices.Sort(w.want); !slices.Equal(got, w.want) {
		t.Errorf("%d services are there, want %d", len(got), len(w.want))
	}
}

// workload is what the clients know.
type workload struct {
	client client

	mu   sync.Mutex
	want []string // services that must be there
}

// service is the life of one service.
func (w *workload) service(i int, call replicatest.Call) {
	s := web(fmt.Sprintf("w%d", i))
	if i%5 == 2 {
		nodePort(s)
	}
	call(s.Name, func(ctx context.Context) error {
		_, err := w.client.CreateService(ctx, &servicelbv1.CreateServiceRequest{Service: s})
		return err
	})
	switch i % 10 {
	case 3, 7:
		call(s.Name, func(ctx context.Context) error {
			_, err := w.client.DeleteService(ctx, &servicelbv1.DeleteServiceRequest{Namespace: "shop", Name: s.Name})
			return err
		})
		return
	case 2:
		call(s.Name, func(ctx context.Context) error {
			_, err := w.client.UpdateService(ctx, &servicelbv1.UpdateServiceRequest{Service: web(s.Name)})
			return err
		})
	}
	w.mu.Lock()
	w.want = append(w.want, s.Name)
	w.mu.Unlock()
}
