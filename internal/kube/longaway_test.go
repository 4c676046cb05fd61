package kube_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/damask-sdn/damask/internal/kube"
	"github.com/damask-sdn/damask/internal/kubetest"
)

// soonBack is how long it may take after an outage until everything is known again. The
// reflectors of client-go alone wait between half a minute and a minute after a long one.
const soonBack = 10 * time.Second

// outage is how long the API server is away: DAMASK_AWAY, or long enough that whoever waits
// twice as long after each failure would ask every ten seconds by then.
func outage(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("DAMASK_AWAY")
	if text == "" {
		return 20 * time.Second
	}
	long, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return long
}

func TestAfterALongOutageEverythingIsKnownWithinSeconds(t *testing.T) {
	s := newStage(t)
	gate := s.NewGate(t)
	r := s.replica(kube.Config{Kubeconfig: gate.Kubeconfig(t, s.User)})
	kinds := []client.Object{&corev1.Node{}, &corev1.Namespace{}, &corev1.Pod{}, &corev1.Service{}}
	for _, kind := range kinds {
		synced, err := r.api.Follow(soon(t), kind, toolscache.ResourceEventHandlerFuncs{})
		if err != nil {
			t.Fatal(err)
		}
		r.until("all there is was told", synced)
	}
	s.configMap("a", "one")
	r.has("a", "one")

	gate.Shut()
	r.until("it says that nobody is there", func() bool { return strings.Contains(r.log.String(), "the API server is away") })
	s.asksOnceASecond(gate)
	gate.Leave()
	s.configMap("a", "two")
	<-time.After(outage(t))
	gate.Open(t)
	began := time.Now()
	r.has("a", "two")
	back := time.Since(began)
	t.Logf("back after %v", back.Round(time.Millisecond))
	if back > soonBack {
		t.Errorf("not within %v", soonBack)
	}
	for _, text := range []string{"the API server is away", "the API server is back"} {
		if n := strings.Count(r.log.String(), text); n != 1 {
			t.Errorf("%q was said %d times:\n%s", text, n, r.log)
		}
	}
	if strings.Contains(r.log.String(), "[ERROR]") {
		t.Errorf("it took that for an error:\n%s", r.log)
	}
}

// asksOnceASecond sees that one asks, and not each watch.
func (s *stage) asksOnceASecond(gate *kubetest.Gate) {
	s.Helper()
	const few = 5
	before, began := gate.Refused(), time.Now()
	for gate.Refused() < before+few {
		if time.Since(began) > limit {
			s.Fatalf("asked %d times in %v", gate.Refused()-before, limit)
		}
		time.Sleep(5 * time.Millisecond)
	}
	took := time.Since(began)
	s.Logf("asked %d times in %v", few, took.Round(time.Millisecond))
	if took < few*time.Second/3 {
		s.Error("more than one asked")
	}
}

// TestATokenThatEndedWhileTheAPIServerWasAwayIsReplaced has the API server take back the token
// that a replica has, as it ends after an hour in which no kubelet could get another, and a
// good one come later, in the same file.
func TestATokenThatEndedWhileTheAPIServerWasAwayIsReplaced(t *testing.T) {
	s := newStage(t)
	gate := s.NewGate(t)
	s.Kubectl(t, "create", "serviceaccount", "service", "-n", "default")
	s.Kubectl(t, "create", "clusterrolebinding", "service", "--clusterrole=cluster-admin", "--serviceaccount=default:service")
	token := filepath.Join(t.TempDir(), "token")
	// A token ends with what it is bound to.
	issue := func(bound string) {
		t.Helper()
		s.Kubectl(t, "create", "secret", "generic", bound, "-n", "default")
		text := s.Kubectl(t, "create", "token", "service", "-n", "default", "--bound-object-kind", "Secret", "--bound-object-name", bound)
		if err := os.WriteFile(token+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(token+".new", token); err != nil {
			t.Fatal(err)
		}
	}
	issue("first")
	r := s.replica(kube.Config{Kubeconfig: withTokenFile(t, gate.Kubeconfig(t, s.User), token)})
	s.configMap("a", "one")
	r.has("a", "one")

	gate.Shut()
	s.Kubectl(t, "delete", "secret", "first", "-n", "default")
	s.configMap("a", "two")
	s.ForgetHistory(t) // and that it took the token for good a moment ago
	gate.Open(t)
	r.until("it says that it is not known", func() bool { return strings.Contains(r.log.String(), "does not accept our credentials") })
	r.has("a", "one")
	issue("second")
	began := time.Now()
	r.has("a", "two")
	back := time.Since(began)
	t.Logf("back %v after the token", back.Round(time.Millisecond))
	if back > soonBack {
		t.Errorf("not within %v", soonBack)
	}
	s.configMap("b", "new")
	r.has("b", "new")
}

// withTokenFile is a kubeconfig whose user is known by a token in a file.
func withTokenFile(t *testing.T, kubeconfig, token string) string {
	t.Helper()
	config, err := clientcmd.LoadFromFile(kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	for name := range config.AuthInfos {
		config.AuthInfos[name] = &clientcmdapi.AuthInfo{TokenFile: token}
	}
	if err := clientcmd.WriteToFile(*config, kubeconfig); err != nil {
		t.Fatal(err)
	}
	return kubeconfig
}
