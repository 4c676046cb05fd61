package kube_test

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/damask-sdn/damask/internal/kube"
)

func TestWhileTheAPIServerIsAwayNothingIsRemovedAndThenAllIsSeen(t *testing.T) {
	s := newStage(t)
	gate := s.NewGate(t)
	r := s.replica(kube.Config{Kubeconfig: gate.Kubeconfig(t, s.User)})
	s.configMap("a", "one")
	r.has("a", "one")
	for how, stop := range map[string]func(){"stopped": s.StopServer, "killed": s.KillServer} {
		stop()
		// What the store lost comes back from the cache.
		if err := r.write(soon(t), "a", ""); err != nil {
			t.Fatal(err)
		}
		r.has("a", "one")
		// What no object has stays, as nobody can say so for sure.
		_, before := r.count("ghost")
		if err := r.write(soon(t), "ghost", how); err != nil {
			t.Fatal(err)
		}
		r.until("it was tried to remove what has no object", func() bool {
			_, failed := r.count("ghost")
			return failed > before+1
		})
		r.has("ghost", how)
		s.StartServer(t)
		r.has("ghost", "")
		s.configMap(how, "new")
		r.has(how, "new")
	}
	s.seesWhatItMissed(gate.Shut, func() { gate.Open(t) }, r)
	if strings.Contains(r.log.String(), "interrupted") {
		t.Errorf("it compared all anew:\n%s", r.log)
	}
}

// seesWhatItMissed has objects come, change and go while the replica is cut off for so long
// that the API server does not know what happened since.
func (s *stage) seesWhatItMissed(shut, open func(), r *replica) {
	s.Helper()
	api, err := typedcorev1.NewForConfig(s.Config())
	if err != nil {
		s.Fatal(err)
	}
	known, err := api.ConfigMaps("default").Get(soon(s.T), "a", metav1.GetOptions{})
	if err != nil {
		s.Fatal(err)
	}
	s.configMap("goes", "soon")
	r.has("goes", "soon")
	shut()
	s.configMap("a", "changed")
	s.configMap("comes", "new")
	s.Kubectl(s.T, "delete", "configmap", "goes")
	s.ForgetHistory(s.T)
	s.configMap("a", "changed-again")
	expired(s, api, known.ResourceVersion)
	open()
	r.has("a", "changed-again")
	r.has("comes", "new")
	r.has("goes", "")
	r.has("stopped", "new")
}

// expired fails unless the API server refuses to tell what happened since a version.
func expired(s *stage, api typedcorev1.CoreV1Interface, version string) {
	s.Helper()
	watch, err := api.ConfigMaps("default").Watch(soon(s.T), metav1.ListOptions{ResourceVersion: version})
	if err == nil {
		defer watch.Stop()
		event := <-watch.ResultChan()
		if status, ok := event.Object.(*metav1.Status); !ok || status.Code != 410 {
			s.Errorf("the API server still tells what happened: %v", event)
		}
	} else if !strings.Contains(err.Error(), "too old resource version") {
		s.Errorf("watch: %v", err)
	}
}

func TestALostClusterTakesNothingFromTheStore(t *testing.T) {
	s := newStage(t)
	r := s.replica(kube.Config{Kubeconfig: s.Kubeconfig()})
	s.configMap("a", "one")
	r.has("a", "one")
	s.LoseStore(t)
	r.until("it notices that the cluster is another", func() bool { return strings.Contains(r.log.String(), "objects of Kubernetes are not followed") })
	before, _ := r.count("a")
	s.configMap("b", "two")
	if err := r.write(soon(t), "ghost", "stays"); err != nil {
		t.Fatal(err)
	}
	r.has("ghost", "stays")

	// Whoever starts now does not begin.
	again := s.replica(kube.Config{Kubeconfig: s.Kubeconfig()})
	r.stop()
	again.until("it refuses to follow another cluster", func() bool { return strings.Contains(again.log.String(), kube.ErrOtherCluster.Error()) })
	for name, want := range map[string]string{"a": "one", "b": "", "ghost": "stays"} {
		again.has(name, want)
	}
	if compared, _ := again.count("a"); compared > 0 {
		t.Errorf("who started after that compared %d times", compared)
	}
	if after, _ := r.count("a"); after != before {
		t.Errorf("who led before compared %d times more", after-before)
	}
	again.stop()

	// A person says that it is right. Then adoption begins anew too.
	uid := s.Kubectl(t, "get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}")
	moved := s.replica(kube.Config{Kubeconfig: s.Kubeconfig(), Cluster: uid})
	moved.has("b", "two")
	moved.has("a", "")
	moved.has("ghost", "")
	if moved.adopted != 2 {
		t.Errorf("adoption was tried %d times", moved.adopted)
	}
}
