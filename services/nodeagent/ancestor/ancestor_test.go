package ancestor

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	cniv1 "github.com/damask-sdn/damask/proto/damask/cni/v1"
)

const sandbox = "5d3f1c0e9a7b4c2d8e6f0a1b2c3d4e5f60718293a4b5c6d7e8f9012345678abc"

// noteText is what libcni writes for CRI-O after an ADD of OpenShift SDN's plugin.
const noteText = `{"kind":"cniCacheV1","containerId":"` + sandbox + `","config":"eyJjbmlWZXJzaW9uIjoiMC4zLjEifQ==","ifName":"eth0",
"networkName":"openshift-sdn","cniArgs":[["IgnoreUnknown","1"],["K8S_POD_NAMESPACE","red"],["K8S_POD_NAME","web-0"],
["K8S_POD_INFRA_CONTAINER_ID","` + sandbox + `"],["K8S_POD_UID","0b9e7c52-7f0c-4d5e-9a5e-6f3c1f1f2a10"]],
"capabilityArgs":{"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"},{"containerPort":81,"protocol":"tcp"}]},
"result":{"cniVersion":"0.3.1","dns":{},"interfaces":[{"name":"eth0","mac":"0a:58:0a:82:00:05","sandbox":"/var/run/netns/1"}],
"ips":[{"address":"10.130.0.5/23","interface":0,"version":"4"}]}}`

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, results, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestAPodIsWhomTheRuntimeNotedAtItsAddress(t *testing.T) {
	dir := t.TempDir()
	n := Node{RuntimeCache: dir}
	write(t, dir, "multus-cni-network-"+sandbox+"-net1", strings.ReplaceAll(strings.ReplaceAll(noteText, "10.130.0.5/23", "192.0.2.9/24"), "eth0", "net1"))
	write(t, dir, "openshift-sdn-"+sandbox+"-eth0", noteText)
	write(t, dir, "openshift-sdn-other-eth0", "{")
	got, err := n.Pod(sandbox, netip.MustParseAddr("10.130.0.5"))
	want := &cniv1.Attachment{
		ContainerId: sandbox, Ifname: "eth0", Netns: "/var/run/netns/1", PodNamespace: "red", PodName: "web-0",
		PodUid:    "0b9e7c52-7f0c-4d5e-9a5e-6f3c1f1f2a10",
		HostPorts: []*cniv1.HostPort{{HostPort: 8080, ContainerPort: 80, Protocol: cniv1.Protocol_PROTOCOL_TCP}},
	}
	if err != nil || !proto.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}

func TestWhoIsNotKnownIsNotGuessed(t *testing.T) {
	address := netip.MustParseAddr("10.130.0.5")
	for name, c := range map[string]struct{ text, says string }{
		"nobody":            {"", "noted nothing"},
		"another address":   {strings.ReplaceAll(noteText, "10.130.0.5", "10.130.0.6"), "it has [10.130.0.6]"},
		"no pod":            {strings.ReplaceAll(noteText, "K8S_POD_NAME", "K8S"), "K8S_POD_NAMESPACE is missing\nK8S_POD_NAME is missing"},
		"no namespace":      {strings.ReplaceAll(noteText, `"sandbox":"/var/run/netns/1"`, `"sandbox":""`), "the network namespace is missing"},
		"another form":      {strings.ReplaceAll(noteText, noteKind, "cniCacheV9"), "cniCacheV9"},
		"half a file":       {noteText[:100], "not a note of libcni"},
		"a strange mapping": {strings.ReplaceAll(noteText, `"hostPort":8080`, `"hostPort":80800`), "host port 80800"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, "openshift-sdn-nobody-eth0", noteText)
			if c.text != "" {
				write(t, dir, "openshift-sdn-"+sandbox+"-eth0", c.text)
			}
			if got, err := (Node{RuntimeCache: dir}).Pod(sandbox, address); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, %v, want an error with %q", got, err, c.says)
			}
		})
	}
	if _, err := (Node{RuntimeCache: "/nowhere"}).Pod(sandbox, address); err == nil {
		t.Error("a runtime that notes nothing knows somebody")
	}
}

func TestAnAgentRunsWhoAnswersAndNotWhoLeftASocket(t *testing.T) {
	n := Node{Socket: filepath.Join(t.TempDir(), "socket")}
	if n.Running(t.Context()) {
		t.Error("without a socket somebody runs")
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: n.Socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	if !n.Running(t.Context()) {
		t.Error("who listens does not run")
	}
	listener.SetUnlinkOnClose(false)
	listener.Close()
	if _, err := os.Stat(n.Socket); err != nil {
		t.Fatal(err)
	}
	if n.Running(t.Context()) {
		t.Error("a socket that was left runs")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(noteText))
	f.Add([]byte(`{"kind":"cniCacheV1","cniArgs":[["a"]],"result":{"ips":[{"address":"::/0"}]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		found, err := parse(data)
		if err != nil {
			return
		}
		a := found.attachment
		if a.GetContainerId() == "" || a.GetIfname() == "" || a.GetNetns() == "" || a.GetPodNamespace() == "" || a.GetPodName() == "" {
			t.Errorf("%q is understood as %v", data, a)
		}
		for _, p := range a.GetHostPorts() {
			if p.GetHostPort() == 0 || p.GetHostPort() > 65535 || p.GetContainerPort() == 0 || p.GetProtocol() == cniv1.Protocol_PROTOCOL_UNSPECIFIED {
				t.Errorf("%q is understood as host port %v", data, p)
			}
		}
	})
}
