package kubetest

import (
	"context"
	"testing"

	"k8s.io/client-go/rest"
)

// StartControlPlane is Start with the rest of a control plane: a controller manager,
// which makes service accounts, EndpointSlices and the pods of workloads, and ends
// what is deleted, and a scheduler. Pods need a service account here, and get its
// token. It returns when the first service account is there.
func StartControlPlane(t testing.TB) *Cluster {
	t.Helper()
	c := &Cluster{
		programs: Programs(t, controllersProgram, schedulerProgram),
		dir:      t.TempDir(), port: reserve(t), controllers: true,
	}
	c.open(t)
	// Neither elects a leader, since each is alone, nor listens: what they do is seen
	// in the objects.
	controllers := c.start(t, controllersProgram,
		"--kubeconfig="+c.As(t, "system:kube-controller-manager").Kubeconfig(),
		"--leader-elect=false", "--secure-port=0", "--profiling=false",
		"--use-service-account-credentials", "--service-account-private-key-file="+accountKey,
		"--root-ca-file="+caCertificate)
	c.start(t, schedulerProgram,
		"--kubeconfig="+c.As(t, "system:kube-scheduler").Kubeconfig(),
		"--leader-elect=false", "--secure-port=0", "--profiling=false")
	client, err := rest.HTTPClientFor(c.Config())
	if err != nil {
		t.Fatalf("make a client: %v", err)
	}
	defer client.CloseIdleConnections()
	await(t, controllers, "the controller manager makes service accounts", func(ctx context.Context) error {
		return get(ctx, client, c.URL()+"/api/v1/namespaces/default/serviceaccounts/default")
	})
	return c
}
