package tenancy

import (
	"context"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/damask-sdn/damask/internal/rpcerr"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/tenancy/registry"
	"github.com/damask-sdn/damask/services/tenancy/server"
	"github.com/damask-sdn/damask/services/tenancy/vnid"
)

// list says what it has of pods, by UID.
type list struct {
	mu     sync.Mutex
	labels map[string]map[string]string
	asked  chan struct{} // somebody waits
}

func (l *list) set(uid string, labels map[string]string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.labels[uid] = labels
}

// Describe waits as long as it may when it does not know a pod.
func (l *list) Describe(ctx context.Context, report *tenancyv1.Pod, patience time.Duration) error {
	end := time.After(patience)
	for {
		l.mu.Lock()
		labels, known := l.labels[report.GetUid()]
		l.mu.Unlock()
		if known {
			report.Labels = labels
			return nil
		}
		if patience > 0 {
			select {
			case l.asked <- struct{}{}:
			default:
			}
		}
		select {
		case <-end:
			return &registry.UnknownPodError{Name: registry.Name{Namespace: report.GetNamespace(), Pod: report.GetName()}, UID: report.GetUid()}
		case <-time.After(time.Millisecond):
		}
	}
}

func described(t *testing.T, source server.PodSource) *system {
	t.Helper()
	sys := newSystem(t)
	sys.source = source
	sys.address = sys.startReplica(vnid.Default(), sys.metrics)
	return sys
}

func reported(node, name, sandbox, uid string) *tenancyv1.Pod {
	p := pod(node, "shop", name, sandbox)
	p.Uid, p.Labels = uid, map[string]string{"app": "as-the-agent-says"}
	return p
}

func (c client) app(t *testing.T, name string) string {
	t.Helper()
	page, err := c.ListPods(soon(t), &tenancyv1.ListPodsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range page.GetPods() {
		if p.GetName() == name {
			return p.GetLabels()["app"]
		}
	}
	return "not registered"
}

func TestAPodIsRegisteredWithItsLabelsOrNotAtAll(t *testing.T) {
	source := &list{labels: map[string]map[string]string{}, asked: make(chan struct{}, 1)}
	sys := described(t, source)
	op, node := sys.operator(), sys.node("n1")

	hurried, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := node.RegisterPod(hurried, &tenancyv1.RegisterPodRequest{Pod: reported("n1", "web", "s1", "u1")})
	if code := status.Code(err); code != codes.Unavailable && code != codes.DeadlineExceeded {
		t.Errorf("a pod that nobody knows: %v", err)
	}
	if got := op.app(t, "web"); got != "not registered" {
		t.Fatalf("a pod that nobody knows is registered with %q", got)
	}

	<-source.asked
	go func() {
		<-source.asked
		source.set("u1", map[string]string{"app": "web"})
	}()
	if _, err := node.RegisterPod(soon(t), &tenancyv1.RegisterPodRequest{Pod: reported("n1", "web", "s1", "u1")}); err != nil {
		t.Fatal(err)
	}
	if got := op.app(t, "web"); got != "web" {
		t.Errorf("it is registered with %q", got)
	}

	// A Pod of the same name is another one.
	source.set("u2", map[string]string{"app": "db"})
	if _, err := node.RegisterPod(soon(t), &tenancyv1.RegisterPodRequest{Pod: reported("n1", "web", "s2", "u2")}); err != nil {
		t.Fatal(err)
	}
	if got := op.app(t, "web"); got != "db" {
		t.Errorf("the next Pod of that name is registered with %q", got)
	}
}

func TestAReportOfANodeStoresWhatIsKnownAndSaysWhatIsNot(t *testing.T) {
	source := &list{labels: map[string]map[string]string{"u1": {"app": "web"}}, asked: make(chan struct{}, 1)}
	sys := described(t, source)
	op, node := sys.operator(), sys.node("n1")
	report := &tenancyv1.SyncNodePodsRequest{Node: "n1", Pods: []*tenancyv1.Pod{reported("n1", "web", "s1", "u1"), reported("n1", "db", "s2", "u2")}}
	_, err := node.SyncNodePods(soon(t), report)
	if status.Code(err) != codes.Unavailable || rpcerr.Reason(err) != "CLUSTER_UNKNOWN" {
		t.Errorf("report: %v", err)
	}
	if web, db := op.app(t, "web"), op.app(t, "db"); web != "web" || db != "not registered" {
		t.Errorf("web has %q, db %q", web, db)
	}
	source.set("u2", map[string]string{"app": "db"})
	if _, err := node.SyncNodePods(soon(t), report); err != nil {
		t.Error(err)
	}
	// What is stored is known, also to a replica that has not heard of anything yet.
	source.mu.Lock()
	clear(source.labels)
	source.mu.Unlock()
	report.Pods[0].SandboxId = "s3" // of the same Pod
	if _, err := node.SyncNodePods(soon(t), report); err != nil {
		t.Error(err)
	}
	if web, db := op.app(t, "web"), op.app(t, "db"); web != "web" || db != "db" {
		t.Errorf("web has %q, db %q", web, db)
	}
}
