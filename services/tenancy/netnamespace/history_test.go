package netnamespace

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"pgregory.net/rapid"

	"github.com/damask-sdn/damask/internal/natsd/natsdtest"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/tenancy/isolation"
	"github.com/damask-sdn/damask/services/tenancy/registry"
	"github.com/damask-sdn/damask/services/tenancy/vnid"
)

// TestConcurrentReplicasActAsOne runs random requests through three replicas
// at once, few names and fewer VNIDs so that they collide, and asks of every
// history: is there one order of the requests, in which each comes between its
// call and its answer, that gives a single careful clerk the same answers? And
// of the store: does each VNID have exactly the namespaces that its key lists?
func TestConcurrentReplicasActAsOne(t *testing.T) {
	server := natsdtest.New(t)
	span := vnid.Range{First: 10, Last: 13}
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		phases := rapid.SliceOfN(rapid.Custom(drawPhase), 1, 4).Draw(rt, "phases")
		all, stop := replicas(t, server, fmt.Sprintf("run_%d", run), span, 3)
		defer stop()
		if err := all[0].EnsureDefault(soon(t)); err != nil {
			rt.Fatal(err)
		}
		var history []porcupine.Operation
		start := time.Now()
		for _, p := range phases {
			history = append(history, perform(all, [][]call{{p.before}}, start)...)
			history = append(history, perform(all, p.clients, start)...)
		}
		if porcupine.CheckOperations(model(span), history) {
			checkStore(rt, all, len(history))
			return
		}
		for _, op := range history {
			rt.Logf("client %d, %d to %d: %s", op.ClientId, op.Call, op.Return, model(span).DescribeOperation(op.Input, op.Output))
		}
		rt.Fatal("no order of these requests explains their answers")
	})
}

func checkStore(rt *rapid.T, all []replica, requests int) {
	for i, r := range all {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		err := r.bucket.Refresh(ctx)
		cancel()
		if err != nil {
			rt.Fatal(err)
		}
		if err := checkOwners(r.bucket.Snapshot()); err != nil {
			rt.Fatalf("replica %d after %d requests: %v", i, requests, err)
		}
		taken := 0
		for _, entry := range r.bucket.Snapshot().List(vnidKind + ".") {
			if n, _ := numberOf(entry.Key); r.numbers.Range().Contains(n) {
				taken++
			}
		}
		if r.numbers.Taken() != taken {
			rt.Fatalf("replica %d counts %d VNIDs as taken, the store has %d", i, r.numbers.Taken(), taken)
		}
	}
}

// phase is a change of what requests depend on, and then requests at once.
type phase struct {
	before  call
	clients [][]call
}

func drawPhase(rt *rapid.T) phase {
	before := rapid.SampledFrom([]string{"mode subnet", "mode multitenant", "mode multitenant", "pod", "no pod"})
	return phase{
		before:  call{verb: before.Draw(rt, "before"), name: names().Draw(rt, "of")},
		clients: rapid.SliceOfN(rapid.SliceOfN(rapid.Custom(drawCall), 1, 4), 2, 4).Draw(rt, "clients"),
	}
}

func names() *rapid.Generator[string] {
	return rapid.SampledFrom([]string{"a", "b", "c", "d", "e", Default})
}

func drawCall(rt *rapid.T) call {
	c := call{name: names().Draw(rt, "name"), verb: rapid.SampledFrom([]string{
		"create", "create", "create", "delete", "delete", "join", "join", "isolate", "isolate", "global", "get",
	}).Draw(rt, "verb")}
	switch c.verb {
	case "create":
		if wish := rapid.SampledFrom([]uint32{99, 0, 1, 10, 11}).Draw(rt, "wish"); wish != 99 && c.name != Default {
			c.wish = &wish
		}
	case "join":
		c.target = names().Draw(rt, "target")
	}
	return c
}

// perform has each client make its calls, one after the other, beside the
// others.
func perform(all []replica, clients [][]call, start time.Time) []porcupine.Operation {
	var history []porcupine.Operation
	var mu sync.Mutex
	var working sync.WaitGroup
	for id, calls := range clients {
		working.Go(func() {
			for i, c := range calls {
				r := all[(id+i)%len(all)] // as a client's calls go round the replicas
				begin := time.Since(start)
				a := r.do(c)
				end := time.Since(start)
				mu.Lock()
				history = append(history, porcupine.Operation{
					ClientId: id, Input: c, Call: begin.Nanoseconds(), Output: a, Return: end.Nanoseconds(),
				})
				mu.Unlock()
			}
		})
	}
	working.Wait()
	return history
}

func (r replica) do(c call) answer {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var ns *tenancyv1.NetNamespace
	var err error
	switch c.verb {
	case "create":
		w := Wish{Name: c.name, VNID: c.wish, Labels: map[string]string{NameLabel: c.name}}
		ns, err = r.Create(ctx, w)
	case "delete":
		err = r.Delete(ctx, c.name)
	case "join":
		ns, err = r.Join(ctx, c.name, c.target)
	case "isolate":
		ns, err = r.Isolate(ctx, c.name)
	case "global":
		ns, err = r.MakeGlobal(ctx, c.name)
	case "get":
		ns, err = r.fresh(ctx, c.name)
	case "pod":
		_, err = r.pods.Register(ctx, &tenancyv1.Pod{Namespace: c.name, Name: "web", Node: "n1", SandboxId: "s1", Ips: []string{"10.128.0.2"}})
	case "no pod":
		err = r.pods.Unregister(ctx, registry.Sandbox{Namespace: c.name, Name: "web", Node: "n1", ID: "s1"})
	case "mode subnet":
		_, err = isolation.Set(ctx, r.bucket, tenancyv1.IsolationMode_ISOLATION_MODE_SUBNET)
	case "mode multitenant":
		_, err = isolation.Set(ctx, r.bucket, tenancyv1.IsolationMode_ISOLATION_MODE_MULTITENANT)
	}
	return answer{number: ns.GetNetid(), refusal: refusal(err)}
}
