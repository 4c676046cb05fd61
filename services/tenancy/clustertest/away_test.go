package clustertest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/rpcerr"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

// TestPodsMoveWhileTheAPIServerIsAwayForLong has pods come, be made anew and go by CNI while
// the service is cut off for so long that the API server does not know any more what happened
// since.
func TestPodsMoveWhileTheAPIServerIsAwayForLong(t *testing.T) {
	w := newWorld(t)
	w.replica()
	w.create("shop")
	w.create("old")
	op, node := w.operator(), w.as(identity.Node("n1"))
	address := map[string]string{"runs": "2", "told": "3", "goes": "4", "late": "5"}
	runs, told, goes := w.pod("runs", "runs", false), w.pod("told", "told", false), w.pod("goes", "goes", false)
	register := func(pod *corev1.Pod, sandbox string) error {
		report := reportOf(pod, sandbox)
		report.Pod.Ips = []string{"10.128.0." + address[pod.Name]}
		_, err := node.RegisterPod(w.ctx(), report)
		return err
	}
	w.until("all Pods are known", func(context.Context) (string, bool) {
		err := errors.Join(register(runs, "r1"), register(goes, "g1"))
		return fmt.Sprint(err), err == nil
	})
	w.cluster.Apply(t, `{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: deny, namespace: shop}, spec: {podSelector: {}}}`)
	w.untilPolicies(op, func(all string) bool { return strings.Contains(all, "deny") })
	w.gate.Shut()
	w.changeAll()
	late := w.pod("late", "late", false)
	w.cluster.ForgetHistory(t)

	// A pod that the service was told of before is added, one that runs is made anew, one
	// goes; one that nobody was told of is refused, and the runtime tries again.
	if err := errors.Join(register(told, "t1"), register(runs, "r2")); err != nil {
		t.Errorf("pods that were known before: %v", err)
	}
	if _, err := node.UnregisterPod(w.ctx(), &tenancyv1.UnregisterPodRequest{Namespace: "shop", Name: "goes", SandboxId: "g1", Node: "n1"}); err != nil {
		t.Errorf("a pod that goes: %v", err)
	}
	short, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err := node.RegisterPod(short, reportOf(late, "l1")); err == nil || rpcerr.Reason(err) != "CLUSTER_UNKNOWN" && short.Err() == nil {
		t.Errorf("a Pod that the service was not told of: %v", err)
	}
	if p := w.registered(w.ctx(), op, "runs"); p.GetSandboxId() != "r2" || p.GetLabels()["app"] != "runs" {
		t.Errorf("what was made anew is %v", p)
	}
	if w.stored(w.ctx(), op, "old") == nil {
		t.Error("a namespace was removed, and nobody could know that it is gone")
	}

	w.gate.Open(w.t)
	if err := register(late, "l2"); err != nil {
		t.Errorf("when the API server is there again: %v", err)
	}
	w.sawAll(op)
}

// changeAll has an object of every kind come, change or go.
func (w *world) changeAll() {
	w.t.Helper()
	w.cluster.Kubectl(w.t, "create", "namespace", "new")
	w.cluster.DeleteNamespace(w.t, "old")
	w.cluster.Kubectl(w.t, "label", "--overwrite", "pod", "-n", "shop", "runs", "app=other")
	w.cluster.Kubectl(w.t, "delete", "networkpolicy", "-n", "shop", "deny")
	w.cluster.Apply(w.t, `{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: allow, namespace: shop}, spec: {podSelector: {}, ingress: [{}]}}`)
	told := &corev1.Pod{}
	if err := w.client.Get(w.ctx(), client.ObjectKey{Namespace: "shop", Name: "told"}, told); err != nil {
		w.t.Fatal(err)
	}
	told.Status.Phase = corev1.PodSucceeded
	if err := w.client.Status().Update(w.ctx(), told); err != nil {
		w.t.Fatal(err)
	}
}

// sawAll waits until the store has what changeAll did.
func (w *world) sawAll(op api) {
	w.t.Helper()
	began := time.Now()
	w.numbered("new")
	w.until("the end of old", func(ctx context.Context) (string, bool) {
		stored, object := w.stored(ctx, op, "old"), w.object(ctx, "old")
		return fmt.Sprint(stored, object), stored == nil && object.Name == ""
	})
	w.until("another label, and an end", func(ctx context.Context) (string, bool) {
		runs, told := w.registered(ctx, op, "runs"), w.registered(ctx, op, "told")
		return fmt.Sprint(runs, told), runs.GetLabels()["app"] == "other" && told.GetConditions().GetCompleted()
	})
	w.untilPolicies(op, func(all string) bool { return strings.Contains(all, "allow") && !strings.Contains(all, "deny") })
	w.t.Logf("all that was missed was taken over %v after the first pod", time.Since(began).Round(time.Millisecond))
}
