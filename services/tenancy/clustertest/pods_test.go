package clustertest

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/rpcerr"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

// pod makes a Pod on node n1.
func (w *world) pod(name, app string, host bool) *corev1.Pod {
	w.t.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, Labels: map[string]string{"app": app}},
		Spec: corev1.PodSpec{NodeName: "n1", HostNetwork: host, Containers: []corev1.Container{{
			Name: "c", Image: "i", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}},
		}}},
	}
	if err := w.client.Create(w.ctx(), pod); err != nil {
		w.t.Fatal(err)
	}
	return pod
}

func reportOf(pod *corev1.Pod, sandbox string) *tenancyv1.RegisterPodRequest {
	return &tenancyv1.RegisterPodRequest{Pod: &tenancyv1.Pod{
		Namespace: "shop", Name: pod.Name, Node: "n1", SandboxId: sandbox, Uid: string(pod.UID), Ips: []string{"10.128.0.2"},
	}}
}

// registered answers a pod as the registry has it; nil if it does not.
func (w *world) registered(ctx context.Context, op api, name string) *tenancyv1.Pod {
	page, err := op.ListPods(ctx, &tenancyv1.ListPodsRequest{Namespace: "shop"})
	if err != nil {
		return nil
	}
	for _, p := range page.GetPods() {
		if p.GetName() == name {
			return p
		}
	}
	return nil
}

func TestPodsHaveTheirLabelsFromTheStart(t *testing.T) {
	w := newWorld(t)
	w.replica()
	w.create("shop")
	op, node := w.operator(), w.as(identity.Node("n1"))
	pod := w.pod("web", "web", false)
	registered, err := node.RegisterPod(w.ctx(), reportOf(pod, "s1"))
	if err != nil {
		t.Fatal(err)
	}
	if p := registered.GetPod(); p.GetLabels()["app"] != "web" || len(p.GetPorts()) != 1 || p.GetPorts()[0].GetName() != "http" {
		t.Fatalf("registered %v", p)
	}
	w.cluster.Kubectl(t, "label", "--overwrite", "pod", "-n", "shop", "web", "app=db")
	w.until("another label", func(ctx context.Context) (string, bool) {
		p := w.registered(ctx, op, "web")
		return fmt.Sprint(p), p.GetLabels()["app"] == "db"
	})
	pod.Status.Phase = corev1.PodSucceeded
	if err := w.client.Get(w.ctx(), client.ObjectKeyFromObject(pod), pod); err != nil {
		t.Fatal(err)
	}
	pod.Status.Phase = corev1.PodSucceeded
	if err := w.client.Status().Update(w.ctx(), pod); err != nil {
		t.Fatal(err)
	}
	w.until("completed", func(ctx context.Context) (string, bool) {
		p := w.registered(ctx, op, "web")
		return fmt.Sprint(p), p.GetConditions().GetCompleted()
	})
}

func TestAPodThatIsAnotherOfThatNameIsWaitedFor(t *testing.T) {
	w := newWorld(t)
	w.replica()
	w.create("shop")
	op, node := w.operator(), w.as(identity.Node("n1"))
	old := w.pod("web-0", "old", false)
	if _, err := node.RegisterPod(w.ctx(), reportOf(old, "s1")); err != nil {
		t.Fatal(err)
	}
	unknown := reportOf(old, "s2")
	unknown.Pod.Uid = "not-there"
	short, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err := node.RegisterPod(short, unknown); err == nil {
		t.Error("a Pod that is not there was registered")
	} else if reason := rpcerr.Reason(err); reason != "CLUSTER_UNKNOWN" && short.Err() == nil {
		t.Errorf("a Pod that is not there: %v", err)
	}
	if p := w.registered(w.ctx(), op, "web-0"); p.GetSandboxId() != "s1" {
		t.Errorf("registered %v", p)
	}
	w.cluster.Kubectl(t, "delete", "pod", "-n", "shop", "web-0", "--force", "--grace-period=0")
	next := w.pod("web-0", "new", false)
	registered, err := node.RegisterPod(w.ctx(), reportOf(next, "s3"))
	if err != nil || registered.GetPod().GetLabels()["app"] != "new" {
		t.Errorf("the next one: %v, %v", registered, err)
	}
	host := w.pod("host", "host", true)
	if _, err := node.RegisterPod(w.ctx(), reportOf(host, "s4")); rpcerr.Reason(err) != "HOST_NETWORK" {
		t.Errorf("a pod in its node's network: %v", err)
	}
}
