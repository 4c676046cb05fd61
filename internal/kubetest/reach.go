package kubetest

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"testing"
)

const (
	// reachSocket is below the working directory of the API server.
	reachSocket = "reach.sock"
	reachFile   = "reach.yaml"
	// What the API server presents to kubelets.
	kubeletCertificate = "kubelet-client.crt"
	kubeletKey         = "kubelet-client.key"
)

// reachConfig has the API server ask a proxy for each connection to a node, a pod or a
// webhook, as one does that is not in the cluster's network.
const reachConfig = `apiVersion: apiserver.k8s.io/v1beta1
kind: EgressSelectorConfiguration
egressSelections:
- name: cluster
  connection:
    proxyProtocol: HTTPConnect
    transport: {uds: {udsName: ` + reachSocket + `}}
`

// Dial connects by TCP to an address of the cluster's network: a kubelet's or a pod's.
type Dial func(ctx context.Context, address string) (net.Conn, error)

// reach is the proxy by which an API server connects to nodes and pods.
type reach struct {
	ctx  context.Context // until the test ends
	dial atomic.Pointer[Dial]
}

// ReachBy has the API server connect to kubelets, pods and webhooks by dial: for `kubectl
// logs`, exec, attach, port-forward and the proxies to pods and services. It is for
// clusters of StartControlPlane. Before, each such connection is refused.
func (c *Cluster) ReachBy(dial Dial) { c.reach.dial.Store(&dial) }

// startReach starts the proxy, and writes what an API server reads that uses it.
func (c *Cluster) startReach(t testing.TB) {
	t.Helper()
	certificate, key, err := c.authority.issueUser("kube-apiserver-kubelet-client", []string{"system:masters"})
	if err != nil {
		t.Fatalf("make the API server's certificate for kubelets: %v", err)
	}
	for name, content := range map[string][]byte{
		reachFile: []byte(reachConfig), kubeletCertificate: certificate, kubeletKey: key,
	} {
		if err := os.WriteFile(c.path(name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	listener, err := net.Listen("unix", c.path(reachSocket))
	if err != nil {
		t.Fatalf("open the API server's way to nodes: %v", err)
	}
	c.reach = &reach{ctx: t.Context()}
	server := &http.Server{Handler: c.reach}
	go func() { _ = server.Serve(listener) }() // until it is closed
	t.Cleanup(func() { _ = server.Close() })
}

// reachArgs has an API server use the proxy. Kubelets' certificates are their own, and
// their names are nobody's.
func reachArgs() []string {
	return []string{
		"--egress-selector-config-file=" + reachFile,
		"--kubelet-client-certificate=" + kubeletCertificate, "--kubelet-client-key=" + kubeletKey,
		"--kubelet-preferred-address-types=InternalIP",
	}
}

// ServeHTTP does what the API server asks a proxy for: CONNECT.
func (r *reach) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	dial := r.dial.Load()
	if request.Method != http.MethodConnect || dial == nil {
		http.Error(w, "there is no way to the cluster's network", http.StatusServiceUnavailable)
		return
	}
	there, err := (*dial)(request.Context(), request.URL.Host)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer func() { _ = there.Close() }()
	here, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer func() { _ = here.Close() }()
	if _, err := fmt.Fprint(here, "HTTP/1.1 200 OK\r\n\r\n"); err == nil {
		couple(r.ctx, here, there)
	}
}
