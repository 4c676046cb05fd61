package kube_test

import (
	"context"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/damask-sdn/damask/internal/kube"
)

func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	return ctx
}

func TestOneReplicaAdoptsAndThenBringsBothTogether(t *testing.T) {
	s := newStage(t)
	s.configMap("a", "old")
	s.StopServer()
	first := s.replica(kube.Config{Kubeconfig: s.Kubeconfig()})
	if err := first.bucket.Ready(soon(t)); err != nil {
		t.Fatal(err)
	}
	if kube.Adopted(first.bucket) == nil {
		t.Error("what objects have was taken over, and the API server is away")
	}
	s.StartServer(t)
	first.has("a", "old")
	if err := kube.Adopted(first.bucket); err != nil || first.adopted != 2 {
		t.Errorf("after adoption that failed once: %v, tried %d times", err, first.adopted)
	}

	second := s.replica(kube.Config{Kubeconfig: s.Kubeconfig()})
	second.has("a", "old")
	s.configMap("a", "new")
	second.has("a", "new")
	// Whoever writes into the store is corrected each time: no change is compared with a
	// view that does not show it yet.
	for range 200 {
		if err := second.write(soon(t), "a", "by-hand"); err != nil {
			t.Fatal(err)
		}
		second.has("a", "new")
	}
	if err := second.write(soon(t), "a", ""); err != nil {
		t.Fatal(err)
	}
	second.has("a", "new")
	s.tells(first)
	s.Kubectl(t, "delete", "configmap", "a")
	second.has("a", "")
	if compared, _ := second.count("a"); compared > 0 || second.adopted > 0 {
		t.Errorf("the second replica compared %d times, and adopted %d times", compared, second.adopted)
	}
	handedOver(s, first, second)
}

// tells has a replica say something in an event that is longer than events are.
func (s *stage) tells(r *replica) {
	s.Helper()
	object := &corev1.ConfigMap{}
	object.Name, object.Namespace = "a", "default"
	r.api.Event(object, corev1.EventTypeWarning, "Refused", strings.Repeat("ä", 3000))
	events, err := typedcorev1.NewForConfig(s.Config())
	if err != nil {
		s.Fatal(err)
	}
	r.until("the API server has the event", func() bool {
		list, err := events.Events("default").List(soon(s.T), metav1.ListOptions{FieldSelector: "reason=Refused"})
		return err == nil && len(list.Items) == 1 && strings.HasSuffix(list.Items[0].Message, "ä ...")
	})
}

// handedOver cuts the first replica off, as a host is that dies, and has the second go on; and
// then stops that one, which does not leave anybody waiting.
func handedOver(s *stage, first, second *replica) {
	s.Helper()
	first.nc.Close()
	died := time.Now()
	s.configMap("b", "one")
	second.has("b", "one")
	s.Logf("the leader died, and the next one wrote after %v", time.Since(died).Round(time.Millisecond))
	before, _ := first.count("b")
	s.configMap("b", "two")
	second.has("b", "two")
	if after, _ := first.count("b"); after != before {
		s.Errorf("who lost the lease compared %d times more", after-before)
	}
	if second.adopted > 0 {
		s.Error("what was adopted was adopted again")
	}
	third := s.replica(kube.Config{Kubeconfig: s.Kubeconfig()})
	third.has("b", "two")
	second.stop()
	stopped := time.Now()
	s.configMap("b", "three")
	third.has("b", "three")
	s.Logf("the leader stopped, and the next one wrote after %v", time.Since(stopped).Round(time.Millisecond))
}
