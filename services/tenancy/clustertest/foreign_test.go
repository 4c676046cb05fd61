package clustertest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/kube/networkv1"
	"github.com/damask-sdn/damask/internal/rpcerr"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

// hostSubnet makes a node's HostSubnet.
func (w *world) hostSubnet(node, subnet string) {
	w.t.Helper()
	h := &networkv1.HostSubnet{ObjectMeta: metav1.ObjectMeta{Name: node}, Host: node, HostIP: "192.168.108.11", Subnet: subnet}
	if err := w.client.Create(w.ctx(), h); err != nil {
		w.t.Fatal(err)
	}
}

// runs says of a Pod what its kubelet does.
func (w *world) runs(pod *corev1.Pod, ip string, phase corev1.PodPhase) *corev1.Pod {
	w.t.Helper()
	pod.Status.PodIP, pod.Status.PodIPs, pod.Status.Phase = ip, []corev1.PodIP{{IP: ip}}, phase
	if err := w.client.Status().Update(w.ctx(), pod); err != nil {
		w.t.Fatal(err)
	}
	return pod
}

// wantRegistered waits until the pods of namespace shop are these, as NAME IP, or NAME IP SANDBOX
// where an agent has reported.
func (w *world) wantRegistered(what string, op api, want ...string) {
	w.t.Helper()
	w.until(what, func(ctx context.Context) (string, bool) {
		page, err := op.ListPods(ctx, &tenancyv1.ListPodsRequest{Namespace: "shop"})
		if err != nil {
			return err.Error(), false
		}
		var got []string
		for _, p := range page.GetPods() {
			got = append(got, strings.TrimSpace(p.GetName()+" "+strings.Join(p.GetIps(), ",")+" "+p.GetSandboxId()))
		}
		return fmt.Sprintf("%q, want %q", got, want), slices.Equal(got, want)
	})
}

// TestPodsOfANodeWithoutAnAgentAreWhatTheClusterSays follows pods of a node that is
// another network's, and what is not one of its pods.
func TestPodsOfANodeWithoutAnAgentAreWhatTheClusterSays(t *testing.T) {
	w := newWorld(t)
	w.replica()
	w.create("shop")
	op := w.operator()
	web := w.runs(w.pod("web", "web", false), "10.128.0.2", corev1.PodRunning)
	w.runs(w.pod("host", "web", true), "192.168.108.11", corev1.PodRunning)
	w.runs(w.pod("liar", "web", false), "10.128.2.9", corev1.PodRunning) // another node's address
	w.pod("starting", "web", false)
	w.wantRegistered("a node without HostSubnet has no pods", op)
	w.hostSubnet("n1", "10.128.0.0/23")
	w.wantRegistered("those with an address of the node's", op, "web 10.128.0.2")
	if p := w.registered(w.ctx(), op, "web"); p.GetNode() != "n1" || p.GetUid() != string(web.UID) || p.GetLabels()["app"] != "web" || p.GetPorts()[0].GetName() != "http" {
		t.Errorf("registered %v", p)
	}
	w.cluster.Kubectl(t, "label", "--overwrite", "pod", "-n", "shop", "web", "app=db")
	w.until("another label", func(ctx context.Context) (string, bool) {
		p := w.registered(ctx, op, "web")
		return fmt.Sprint(p), p.GetLabels()["app"] == "db"
	})

	// One that is being deleted has its address until somebody else has.
	old := w.runs(w.pod("old", "web", false), "10.128.0.3", corev1.PodRunning)
	w.wantRegistered("one more", op, "old 10.128.0.3", "web 10.128.0.2")
	w.cluster.Kubectl(t, "delete", "pod", "-n", "shop", old.Name, "--grace-period=600", "--wait=false")
	next := w.runs(w.pod("next", "web", false), "10.128.0.3", corev1.PodRunning)
	w.wantRegistered("an address that has been given on", op, "next 10.128.0.3", "web 10.128.0.2")
	w.runs(next, "10.128.0.3", corev1.PodFailed)
	w.wantRegistered("it has ended, and the other one has not", op, "old 10.128.0.3", "web 10.128.0.2")
	w.cluster.Kubectl(t, "delete", "pod", "-n", "shop", "old", "--force", "--grace-period=0")
	w.wantRegistered("a pod that is gone", op, "web 10.128.0.2")
	w.cluster.Kubectl(t, "delete", "hostsubnet", "n1")
	w.wantRegistered("a node that is gone", op)
}

// TestAnAgentsFirstReportEndsTheClustersWord takes a node over, with two replicas of which one
// stops then, and loses the store after that.
func TestAnAgentsFirstReportEndsTheClustersWord(t *testing.T) {
	w := newWorld(t)
	stop := w.replica()
	w.create("shop")
	w.hostSubnet("n1", "10.128.0.0/23")
	op, node := w.operator(), w.as(identity.Node("n1"))
	web := w.runs(w.pod("web", "web", false), "10.128.0.2", corev1.PodRunning)
	w.runs(w.pod("gone", "web", false), "10.128.0.3", corev1.PodRunning)
	w.wantRegistered("before", op, "gone 10.128.0.3", "web 10.128.0.2")

	sync := &tenancyv1.SyncNodePodsRequest{Node: "n1", Pods: []*tenancyv1.Pod{reportOf(web, "s1").GetPod()}}
	if _, err := node.SyncNodePods(w.ctx(), sync); err != nil {
		t.Fatal(err)
	}
	w.wantRegistered("the agent has reported, and not one of the pods", op, "web 10.128.0.2 s1")
	w.runs(w.pod("later", "web", false), "10.128.0.4", corev1.PodRunning)
	if _, err := node.UnregisterPod(w.ctx(), &tenancyv1.UnregisterPodRequest{Namespace: "shop", Name: "web", Node: "n1", SandboxId: "s1"}); err != nil {
		t.Fatal(err)
	}
	w.settle(op, "first")
	w.wantRegistered("the cluster's word does not count any more", op)

	w.replica()
	op, node = w.operator(), w.as(identity.Node("n1"))
	stop()
	w.settle(op, "second")
	w.wantRegistered("nor with another replica", op)

	w.loseStore()
	w.wantRegistered("a store that was lost knows of no agent", op, "gone 10.128.0.3", "later 10.128.0.4", "web 10.128.0.2")
	if _, err := node.RegisterPod(w.ctx(), reportOf(web, "s1")); rpcerr.Reason(err) != "REPORT_ALL" {
		t.Errorf("a report of one pod: %v", err)
	}
	if _, err := node.SyncNodePods(w.ctx(), sync); err != nil {
		t.Fatal(err)
	}
	w.wantRegistered("until it reports", op, "web 10.128.0.2 s1")
}

// settle returns when a change of a Pod that came after all others has been looked at: one of a
// node of which no agent has reported.
func (w *world) settle(op api, name string) {
	w.t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if err := w.client.Create(w.ctx(), ns); err != nil {
		w.t.Fatal(err)
	}
	w.hostSubnet(name, "10.129.0.0/23")
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: "last"},
		Spec:       corev1.PodSpec{NodeName: name, Containers: []corev1.Container{{Name: "c", Image: "i"}}},
	}
	if err := w.client.Create(w.ctx(), pod); err != nil {
		w.t.Fatal(err)
	}
	w.runs(pod, "10.129.0.2", corev1.PodRunning)
	w.until("the last pod", func(ctx context.Context) (string, bool) {
		page, err := op.ListPods(ctx, &tenancyv1.ListPodsRequest{Namespace: name})
		return fmt.Sprint(page, err), err == nil && len(page.GetPods()) == 1
	})
}

// TestWhileTheAPIServerIsAwayPodsOfOthersStay goes away with the API server, and with the replica
// that followed it.
func TestWhileTheAPIServerIsAwayPodsOfOthersStay(t *testing.T) {
	w := newWorld(t)
	stop := w.replica()
	w.create("shop")
	w.hostSubnet("n1", "10.128.0.0/23")
	op := w.operator()
	w.runs(w.pod("web", "web", false), "10.128.0.2", corev1.PodRunning)
	w.runs(w.pod("old", "web", false), "10.128.0.3", corev1.PodRunning)
	w.wantRegistered("before", op, "old 10.128.0.3", "web 10.128.0.2")
	w.gate.Shut()
	stop()
	w.replica()
	op = w.operator()
	w.wantRegistered("while it is away", op, "old 10.128.0.3", "web 10.128.0.2")
	w.cluster.Kubectl(t, "delete", "pod", "-n", "shop", "old", "--force", "--grace-period=0")
	w.gate.Open(t)
	w.wantRegistered("when it is back", op, "web 10.128.0.2")
}
