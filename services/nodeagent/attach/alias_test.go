package attach_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/services/nodeagent/attach"
	"github.com/damask-sdn/damask/services/nodeagent/cniinstall"
)

// TestPodsOfTheAncestorAreDeletedByItsName: a runtime that restarted has noted the name of
// the plugin that attached a pod, and deletes it by that.
func TestPodsOfTheAncestorAreDeletedByItsName(t *testing.T) {
	image, plugins := buildPlugin(t), t.TempDir()
	ready := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(ready.Close)
	install := cniinstall.Install{
		Plugin: filepath.Join(image, "damask-cni"), Plugins: plugins, Configuration: filepath.Join(t.TempDir(), "10-damask.conflist"),
		Ready: ready.URL, Aliases: []string{"openshift-sdn"},
	}
	if err := install.Configure(t.Context(), hclog.NewNullLogger()); err != nil {
		t.Fatal(err)
	}
	n := newNode(t)
	web, peer := newPod(t, "shop", "web"), newPod(t, "shop", "peer")
	made := add(t, n.server(nil), web.request())
	other := add(t, n.server(nil), peer.request())
	known := n.disown(t, made, other)
	s := n.server(func(parts *attach.Parts) { parts.Predecessor = known })
	if err := s.Recognise(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Restore(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.serveHere(t, nil)
	// What a runtime makes of OpenShift SDN's 80-openshift-network.conf, and where the test's agent is.
	list, err := libcni.NetworkConfFromBytes(fmt.Appendf(nil,
		`{"cniVersion": "0.3.1", "name": "openshift-sdn", "plugins": [{"type": "openshift-sdn", "socket": %q}]}`, n.place.Socket))
	if err != nil {
		t.Fatal(err)
	}
	exec := &invoke.DefaultExec{RawExec: &invoke.RawExec{}}
	runtime := libcni.NewCNIConfigWithCacheDir([]string{plugins}, t.TempDir(), exec)
	for range 2 {
		if err := runtime.DelNetworkList(t.Context(), list, web.runtimeConf()); err != nil {
			t.Fatalf("DEL: %v", err)
		}
	}
	if left := n.leases.List(); len(left) != 1 || left[0].Attachment.GetContainerId() != "peer" {
		t.Errorf("leases of %v, want peer's", left)
	}
	if err := runtime.DelNetworkList(t.Context(), list, peer.runtimeConf()); err != nil {
		t.Fatalf("DEL: %v", err)
	}
	n.expectNothing(t)
}
