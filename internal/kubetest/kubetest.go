// Package kubetest gives a test a real Kubernetes API of its own.
//
// It owns an etcd and a kube-apiserver on loopback: their data, certificates and
// logs are in the test's temporary directory, etcd is reached by a socket there,
// and the API server has a port that nobody else gets while the test runs. They end
// with the test, however the test ends. Tests of several packages may run beside
// one another.
//
// It promises that Start returns only when the API server says that it is ready,
// and that what the test does with kubectl reads nothing of whoever runs it.
// Requests are authorized by the Node authorizer and RBAC, and NodeRestriction is
// on, as in a cluster.
//
// Nothing else of a cluster runs after Start. In particular there is no controller
// manager: nobody makes a namespace's service account (so pods need none here),
// makes EndpointSlices, collects what a deleted object owned, or ends a deleted
// namespace (see Cluster.DeleteNamespace). After StartControlPlane somebody does.
// Nodes exist only when a test makes them.
//
// The programs are those that `make kube-binaries` builds. Where they are not built
// a test is skipped, or fails if nothing may be skipped: see proctest.
package kubetest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/damask-sdn/damask/internal/proctest"
)

// logTail is how many bytes of each log are shown when a test fails.
const logTail = 6000

// Cluster is a running API server. It is also its administrator, a user in
// system:masters, whom nothing is forbidden.
type Cluster struct {
	*User
	programs    string // the directory of the programs
	dir         string
	authority   *authority
	port        *port
	controllers bool   // whether a controller manager runs
	reach       *reach // where one does
	etcd        *proctest.Process
	server      *proctest.Process
}

// Start starts an API server with an empty store, and stops both when the test ends.
func Start(t testing.TB) *Cluster {
	t.Helper()
	c := &Cluster{programs: Programs(t), dir: t.TempDir(), port: reserve(t)}
	c.open(t)
	return c
}

func (c *Cluster) open(t testing.TB) {
	t.Helper()
	t.Cleanup(func() { c.showLogs(t) })
	var err error
	if c.authority, err = newAuthority(); err != nil {
		t.Fatalf("make certificates: %v", err)
	}
	if err := c.authority.writeServing(c.dir); err != nil {
		t.Fatalf("make certificates: %v", err)
	}
	c.User = c.As(t, "kubetest-admin", "system:masters")
	if c.controllers {
		c.startReach(t)
	}
	c.startEtcd(t)
	c.StartServer(t)
}

// URL is where the API server listens, or would.
func (c *Cluster) URL() string { return "https://" + c.port.address() }

func (c *Cluster) path(name string) string { return filepath.Join(c.dir, name) }

// showLogs shows the end of the programs' logs beside a failure.
func (c *Cluster) showLogs(t testing.TB) {
	if !t.Failed() {
		return
	}
	shown := []string{etcdProgram, serverProgram}
	if c.controllers {
		shown = append(shown, controllersProgram, schedulerProgram)
	}
	for _, program := range shown {
		text, err := os.ReadFile(c.path(program + ".log"))
		if err != nil {
			text = fmt.Append(nil, err)
		}
		t.Logf("end of the log of %s:\n%s", program, bytes.TrimSpace(text[max(0, len(text)-logTail):]))
	}
}
