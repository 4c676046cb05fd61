package tenancy

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/identity/identitytest"
	"github.com/damask-sdn/damask/internal/replicatest"
	"github.com/damask-sdn/damask/internal/rpcdial"
	accessv1 "github.com/damask-sdn/damask/proto/damask/access/v1"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

const (
	policyKillRounds = 120
	// policyKillPods makes groups that have several shards, so that some changes
	// divide a group while a replica dies.
	policyKillPods = 300
)

// TestKilledReplicasResolveEverythingInTheEnd changes policies, pods and labels
// through three replicas, each a process, of which one is killed (SIGKILL) every few
// changes. In the end what is stored must be what follows from what was asked for.
func TestKilledReplicasResolveEverythingInTheEnd(t *testing.T) {
	sys := newSystem(t)
	tls := sys.ca.Files(t, identitytest.Service(t, "tenancy"))
	var processes []*replicatest.Replica
	var addresses []string
	for i := range 3 {
		p, address := startProcess(t, i+1, tls, sys.store.URL())
		processes, addresses = append(processes, p), append(addresses, address)
	}
	connect := func(id identity.ID) client {
		conn, err := rpcdial.New(rpcdial.Config{Addresses: addresses, Roles: []accessv1.Role{accessv1.Role_ROLE_TENANCY}}, sys.ca.Source(t, id))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return newClient(conn)
	}
	op, node := connect(identity.Operator("ann")), connect(identity.Node("n1"))
	revision := uint64(0)
	change := func(what string, do func(ctx context.Context) (uint64, error)) {
		t.Helper()
		if err := replicatest.Again(func(ctx context.Context) error {
			r, err := do(ctx)
			revision = max(revision, r)
			return err
		}); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	syncPods := func(n int) {
		pods := make([]*tenancyv1.Pod, n)
		for i := range pods {
			pods[i] = podOf("shop", fmt.Sprintf("p%d", i), fmt.Sprintf("10.1.%d.%d", i/200, i%200+1), map[string]string{"app": []string{"web", "client"}[i%2], "all": "yes"})
		}
		change("pods", func(ctx context.Context) (uint64, error) {
			_, err := node.SyncNodePods(ctx, &tenancyv1.SyncNodePodsRequest{Node: "n1", Pods: pods})
			return 0, err
		})
	}
	syncPods(policyKillPods)
	kills, began := 0, time.Now()
	for round := range policyKillRounds {
		if round%6 == 5 {
			victim := processes[rand.IntN(len(processes))]
			victim.Kill()
			victim.Restart()
			kills++
		}
		name := fmt.Sprintf("np%d", rand.IntN(10))
		switch rand.IntN(4) {
		case 0:
			change(name, func(ctx context.Context) (uint64, error) {
				r, err := op.DeleteNetworkPolicy(ctx, &tenancyv1.DeleteNetworkPolicyRequest{Key: key("shop", name)})
				return r.GetRevision(), err
			})
		case 1:
			change("labels", func(ctx context.Context) (uint64, error) {
				r, err := op.UpdatePodLabels(ctx, &tenancyv1.UpdatePodLabelsRequest{
					Namespace: "shop", Name: fmt.Sprintf("p%d", rand.IntN(100)), Set: map[string]string{"app": []string{"web", "client", "none"}[rand.IntN(3)]},
				})
				return r.GetPod().GetRevision(), err
			})
		case 2:
			syncPods([]int{100, 280, policyKillPods}[rand.IntN(3)])
		default:
			spec := []string{fromApp, `{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {all: "yes"}}}]}]}`,
				`{podSelector: {matchLabels: {app: client}}, policyTypes: [Egress], egress: [{ports: [{port: http}]}]}`}[rand.IntN(3)]
			change(name, func(ctx context.Context) (uint64, error) {
				r, err := op.ApplyNetworkPolicy(ctx, &tenancyv1.ApplyNetworkPolicyRequest{Manifest: manifest("shop", name, spec)})
				return r.GetNetworkPolicy().GetRevision(), err
			})
		}
	}
	// The last change of all is one whose revision is known.
	change("last", func(ctx context.Context) (uint64, error) {
		r, err := op.ApplyNetworkPolicy(ctx, &tenancyv1.ApplyNetworkPolicyRequest{Manifest: manifest("shop", "last", fromApp)})
		return r.GetNetworkPolicy().GetRevision(), err
	})
	change("resolved", func(ctx context.Context) (uint64, error) {
		_, err := op.WaitResolved(ctx, &tenancyv1.WaitResolvedRequest{Revision: revision})
		return 0, err
	})
	got := checkResolved(t, sys.snapshot())
	t.Logf("%d changes, %d kills, %v; in the end %v", policyKillRounds, kills, time.Since(began).Round(time.Second), got)
	if len(got.pods) == 0 || len(got.groups) == 0 {
		t.Error("nothing is left to compare, the test proves little")
	}
	if t.Failed() {
		for _, p := range processes {
			t.Log(p.Complaints())
		}
	}
}
