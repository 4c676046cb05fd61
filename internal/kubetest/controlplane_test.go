package kubetest_test

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/damask-sdn/damask/internal/kubetest"
)

func TestControlPlaneMakesWhatADeploymentAsksFor(t *testing.T) {
	t.Parallel()
	cluster := kubetest.StartControlPlane(t)
	cluster.Apply(t, `{apiVersion: v1, kind: Node, metadata: {name: node1}}`)
	// Nobody runs it, but there is room.
	cluster.Kubectl(t, "patch", "node", "node1", "--subresource=status", "-p", `{"status": {"capacity": {"pods": "10"}, "allocatable": {"pods": "10"}}}`)
	cluster.Apply(t, `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: default}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      tolerations: [{operator: Exists}]
      containers: [{name: web, image: web}]
`)
	cluster.Kubectl(t, "wait", "--timeout=2m", "--for=create", "pods", "-l", "app=web")
	cluster.Kubectl(t, "wait", "--timeout=2m", "pods", "-l", "app=web", "--for=jsonpath={.spec.nodeName}=node1")
	if got := cluster.Kubectl(t, "get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].spec.volumes[*].projected.sources[*].configMap.name}"); !strings.HasPrefix(got, "kube-root-ca.crt") {
		t.Errorf("pods have no token and no authority of the API server: %q", got)
	}
}

func TestServerIsReachedByAnotherListenerToo(t *testing.T) {
	t.Parallel()
	cluster := kubetest.Start(t)
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cluster.ServeAlsoAt(t, listener)
	there := "--server=https://" + listener.Addr().String()
	if got := cluster.Kubectl(t, there, "get", "--raw", "/readyz"); got != "ok" {
		t.Errorf("it answers %q", got)
	}
	cluster.StopServer()
	if out, err := cluster.TryKubectl(there, "get", "--raw", "/readyz", "--request-timeout="+time.Minute.String()); err == nil {
		t.Errorf("while the API server is away: %q", out)
	}
	cluster.StartServer(t)
	if got := cluster.Kubectl(t, there, "get", "--raw", "/readyz"); got != "ok" {
		t.Errorf("when it is back: %q", got)
	}
}
