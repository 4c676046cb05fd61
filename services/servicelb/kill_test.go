package servicelb

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

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
		p, address := startProcess(t, i+1, tls, sys.store.URL())
		processes, addresses = append(processes, p), append(addresses, address)
	}
	w := &workload{client: sys.as(identity.Operator("ann"), addresses...), progress: make(chan struct{}, 1)}
	finished := make(chan struct{})
	began := time.Now()
	go func() {
		defer close(finished)
		w.run()
	}()
	kills := replicatest.KillWhile(processes, killEvery, w.answered.Load, w.progress, finished)
	for _, problem := range w.problems {
		t.Error(problem)
	}
	if t.Failed() {
		for _, p := range processes {
			t.Log(p.Complaints())
		}
		t.FailNow()
	}
	t.Logf("%d services, %d requests answered, %d kills, %v", killServices, w.answered.Load(), kills, time.Since(began).Round(time.Second))
	if kills < 8 {
		t.Errorf("only %d kills, the test proves little", kills)
	}
	got := audit(t, sys.read())
	slices.Sort(got)
	if slices.Sort(w.want); !slices.Equal(got, w.want) {
		t.Errorf("%d services are there, want %d", len(got), len(w.want))
	}
}

// workload is the clients and what they know.
type workload struct {
	client   client
	answered atomic.Int64
	progress chan struct{}

	mu       sync.Mutex
	want     []string // services that must be there
	problems []string
}

// run ends early at the first problem: what cannot be done once takes minutes each time.
func (w *workload) run() {
	numbers := make(chan int)
	var working sync.WaitGroup
	for range killClients {
		working.Go(func() {
			for i := range numbers {
				w.service(i)
			}
		})
	}
	for i := range killServices {
		if w.failed() {
			break
		}
		numbers <- i
	}
	close(numbers)
	working.Wait()
}

// service is the life of one service.
func (w *workload) service(i int) {
	s := web(fmt.Sprintf("w%d", i))
	if i%5 == 2 {
		nodePort(s)
	}
	w.call(s.Name, func(ctx context.Context) error {
		_, err := w.client.CreateService(ctx, &servicelbv1.CreateServiceRequest{Service: s})
		return err
	})
	switch i % 10 {
	case 3, 7:
		w.call(s.Name, func(ctx context.Context) error {
			_, err := w.client.DeleteService(ctx, &servicelbv1.DeleteServiceRequest{Namespace: "shop", Name: s.Name})
			return err
		})
		return
	case 2:
		w.call(s.Name, func(ctx context.Context) error {
			_, err := w.client.UpdateService(ctx, &servicelbv1.UpdateServiceRequest{Service: web(s.Name)})
			return err
		})
	}
	w.mu.Lock()
	w.want = append(w.want, s.Name)
	w.mu.Unlock()
}

func (w *workload) failed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.problems) > 0
}

// call makes a request until it is answered: a replica that dies takes the
// answer with it, and the request must be safe to make again.
func (w *workload) call(name string, do func(context.Context) error) {
	deadline := time.Now().Add(time.Minute)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		err := do(ctx)
		cancel()
		if err == nil {
			w.answered.Add(1)
			select {
			case w.progress <- struct{}{}:
			default:
			}
			return
		}
		lost := status.Code(err) == codes.Unavailable || status.Code(err) == codes.DeadlineExceeded || status.Code(err) == codes.Canceled
		if !lost || time.Now().After(deadline) {
			w.mu.Lock()
			w.problems = append(w.problems, fmt.Sprintf("%s: %v", name, err))
			w.mu.Unlock()
			return
		}
	}
}
