package egress

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/identity/identitytest"
	"github.com/damask-sdn/damask/internal/replicatest"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
)

const (
	killRounds   = 60
	killReplicas = 3
)

// TestKilledReplicasNeverShowTwoHostsOrLoseAWish changes wishes and drains nodes
// through replicas, each a process, of which one is killed (SIGKILL) every few
// changes, often the one that decides. Agents check all the
// while that no address has two hosts. In the end every address must be hosted,
// by the namespace that asked for it last.
func TestKilledReplicasNeverShowTwoHostsOrLoseAWish(t *testing.T) {
	sys, f := newSystem(t), newFabric(t)
	tls := sys.ca.Files(t, identitytest.Service(t, serviceName))
	var processes []*replicatest.Replica
	for i := range killReplicas {
		p, address := startProcess(t, i+1, tls, sys)
		processes, sys.replica = append(processes, p), append(sys.replica, address)
	}
	op := sys.as(identity.Operator("ann"))
	const nodes, names = 3, 8
	sys.ipam.register(nodes)
	for n := 1; n <= nodes; n++ {
		name := fmt.Sprintf("n%d", n)
		sys.startAgent(f, name, fmt.Sprintf("192.0.2.%d/24", 100+n))
		op.offer(t, &egressv1.HostSubnetEgress{Node: name, EgressCidrs: []string{"192.0.2.0/26"}})
	}
	owner := map[string]string{}
	for i := range names {
		sys.tenancy.netid(fmt.Sprintf("ns%d", i), uint32(50+i)) //nolint:gosec // small
	}
	kills, began := 0, time.Now()
	for round := range killRounds {
		if round%5 == 4 {
			victim := processes[rand.IntN(len(processes))]
			victim.Kill()
			victim.Restart()
			kills++
		}
		ip, next := fmt.Sprintf("192.0.2.%d", 1+rand.IntN(20)), fmt.Sprintf("ns%d", rand.IntN(names))
		if former := owner[ip]; former != "" && former != next {
			delete(owner, ip)
			setWish(t, op, former, owner)
		}
		owner[ip] = next
		setWish(t, op, next, owner)
		if round%7 == 3 {
			node := fmt.Sprintf("n%d", 1+rand.IntN(nodes))
			again(t, func(ctx context.Context) error {
				_, err := op.DrainEgress(ctx, &egressv1.DrainEgressRequest{Node: node})
				return err
			})
			again(t, func(ctx context.Context) error {
				_, err := op.RestoreEgress(ctx, &egressv1.RestoreEgressRequest{Node: node})
				return err
			})
		}
	}
	t.Logf("%d changes, %d kills, %v", killRounds, kills, time.Since(began).Round(time.Millisecond))
	checkAllHosted(t, op, f, owner)
	if t.Failed() {
		for _, p := range processes {
			t.Log(p.Complaints())
		}
	}
}

// setWish sets what a namespace wants: at most one a node, so that all can be
// hosted.
func setWish(t *testing.T, op client, namespace string, owner map[string]string) {
	t.Helper()
	wish := &egressv1.NetNamespaceEgress{Namespace: namespace}
	for ip, ns := range owner {
		if ns == namespace {
			wish.EgressIps = append(wish.EgressIps, ip)
		}
	}
	slices.Sort(wish.EgressIps)
	for _, extra := range wish.EgressIps[min(3, len(wish.EgressIps)):] {
		delete(owner, extra)
	}
	wish.EgressIps = wish.EgressIps[:min(3, len(wish.EgressIps))]
	again(t, func(ctx context.Context) error {
		_, err := op.SetNetNamespaceEgress(ctx, &egressv1.SetNetNamespaceEgressRequest{NetNamespaceEgress: wish})
		return err
	})
}

// again makes a request until it is answered.
func again(t *testing.T, do func(context.Context) error) {
	t.Helper()
	if err := replicatest.Again(do); err != nil {
		t.Fatal(err)
	}
}

// checkAllHosted waits until what namespaces are told is what they want, and
// what nodes hold is what namespaces are told.
func checkAllHosted(t *testing.T, op client, f *fabric, owner map[string]string) {
	t.Helper()
	for ctx := soon(t); ; {
		page, err := op.ListEgressAssignments(ctx, &egressv1.ListEgressAssignmentsRequest{})
		if err != nil {
			t.Fatalf("not all are hosted: %v", err)
		}
		hosted, good := 0, true
		for _, a := range page.GetEgressAssignments() {
			for _, told := range a.GetAddresses() {
				good = good && told.GetState() == egressv1.AddressState_ADDRESS_STATE_HOSTED && owner[told.GetIp()] == a.GetNamespace()
				f.mu.Lock()
				good = good && f.held[told.GetNode()][told.GetIp()]
				f.mu.Unlock()
				hosted++
			}
		}
		if good && hosted == len(owner) {
			t.Logf("%d addresses are hosted in the end", hosted)
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("%d wanted; told %v", len(owner), page.GetEgressAssignments())
		}
	}
}
