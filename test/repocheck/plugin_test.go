package repocheck

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// heavy is what the CNI plugin must not link, because a process start is on every
// pod's way up: gRPC itself costs 1.3 ms of it, and brings net/http with it.
var heavy = []string{"google.golang.org/grpc", "net/http", "crypto/tls"}

func TestThePluginStartsLight(t *testing.T) {
	list := exec.Command("go", "list", "-deps", "./cmd/damask-cni")
	list.Dir = filepath.Join(root, "services", "nodeagent")
	out, err := list.Output()
	if err != nil {
		t.Fatalf("list what damask-cni links: %v", err)
	}
	linked := map[string]bool{}
	for _, path := range strings.Fields(string(out)) {
		linked[path] = true
	}
	if want := "github.com/containerd/ttrpc"; !linked[want] {
		t.Errorf("damask-cni does not link %s: this test looks at the wrong thing", want)
	}
	for _, path := range heavy {
		if linked[path] {
			t.Errorf("damask-cni links %s", path)
		}
	}
}
