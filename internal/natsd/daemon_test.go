package natsd_test

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/internal/configfile/configfiletest"
	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/identity/identitytest"
	"github.com/damask-sdn/damask/internal/natsd"
)

func TestReferenceConfigurationIsWholeAndRight(t *testing.T) {
	const path = "../../deploy/config/nats.yaml"
	configfiletest.Documented(t, path, &natsd.DaemonConfig{})
	if _, err := natsd.Load(path); err != nil {
		t.Error(err)
	}
}

func TestWrongConfigurationIsRefusedWithEveryProblem(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nats.yaml")
	content := "listen: nowhere\nsync: sometimes\nwhat: 1\ncluster:\n  routes: [\"10.0.0.1\"]\n"
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := natsd.Load(path)
	if err == nil {
		t.Fatal("it was accepted")
	}
	for _, want := range []string{":1: listen:", ":2: sync:", ":3: what:", "storeDir:", "cluster.name", "tls.certificate:", "tls.key:", "tls.ca:"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not name %q:\n%v", want, err)
		}
	}
}

func TestRunServesUntilItIsStopped(t *testing.T) {
	ca := identitytest.New(t)
	listen, metrics := free(t), free(t)
	cfg := natsd.DaemonConfig{
		ServerConfig: natsd.ServerConfig{StoreDir: t.TempDir(), Listen: listen},
		Metrics:      metrics, TLS: ca.Files(t, identitytest.Service(t, "nats")),
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- natsd.Run(ctx, cfg, hclog.NewNullLogger()) }()
	// Connect retries by itself until the server is there.
	connect(t, ca, identity.Node("n1"), "tls://"+listen)
	client := http.Client{Timeout: 5 * time.Second}
	for deadline := soon(t); get(t, &client, "http://"+metrics+"/healthz") != http.StatusOK; {
		if deadline.Err() != nil {
			t.Fatal("never healthy")
		}
	}
	if got := get(t, &client, "http://"+metrics+"/metrics"); got != http.StatusOK {
		t.Errorf("/metrics: got status %d", got)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func get(t *testing.T, client *http.Client, url string) (status int) {
	t.Helper()
	answer, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	return answer.StatusCode
}
