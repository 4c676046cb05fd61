package kubetest_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/damask-sdn/damask/internal/kubetest"
)

func TestServerReachesNodesAndPodsByWhatATestDials(t *testing.T) {
	t.Parallel()
	cluster := kubetest.StartControlPlane(t)
	cluster.Apply(t, `{apiVersion: v1, kind: Node, metadata: {name: node1}}`)
	const address, port = "192.0.2.2", 10250
	cluster.Kubectl(t, "patch", "node", "node1", "--subresource=status", "-p", fmt.Sprintf(
		`{"status": {"addresses": [{"type": "Hostname", "address": "node1"}, {"type": "InternalIP", "address": %q}], "daemonEndpoints": {"kubeletEndpoint": {"Port": %d}}}}`, address, port))
	ask := func() (string, error) {
		return cluster.TryKubectl("get", "--raw", "/api/v1/nodes/node1/proxy/whoami")
	}
	if out, err := ask(); err == nil {
		t.Errorf("there is no way to the node, and it answers %q", out)
	}
	kubelet := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s as %s", r.URL.Path, r.TLS.PeerCertificates[0].Subject)
	}))
	kubelet.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	kubelet.StartTLS()
	t.Cleanup(kubelet.Close)
	dialed := make(chan string, 1)
	cluster.ReachBy(func(ctx context.Context, there string) (net.Conn, error) {
		dialed <- there
		var dialer net.Dialer
		return dialer.DialContext(ctx, "tcp", kubelet.Listener.Addr().String())
	})
	out, err := ask()
	if want := "/whoami as CN=kube-apiserver-kubelet-client,O=system:masters"; err != nil || out != want {
		t.Errorf("the node says %q (%v), want %q", out, err, want)
	}
	if got, want := <-dialed, fmt.Sprintf("%s:%d", address, port); got != want {
		t.Errorf("the API server connected to %s, want %s", got, want)
	}
}
