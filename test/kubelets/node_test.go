package kubelets

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/damask-sdn/damask/internal/kubetest"
	"github.com/damask-sdn/damask/internal/netnstest"
	"github.com/damask-sdn/damask/test/kubelets/machine"
)

// Where a node has what.
const (
	kubeletProgram = "/usr/local/bin/kubelet"
	imagesDir      = "/var/lib/images"
	kubeconfigFile = "/etc/kubernetes/kubelet.kubeconfig"
	authorityFile  = "/etc/kubernetes/ca.crt"
	kubeletFile    = "/etc/kubernetes/kubelet.yaml"
	containerdFile = "/etc/containerd/config.toml"
	containerdSock = "/run/containerd/containerd.sock"
)

// containerdConfig is what containerd 1.6 needs to know. Where root may not lower what the
// kernel kills last, a runtime must not try.
const containerdConfig = `version = 2
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "` + testImage + `"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/opt/cni/bin"
conf_dir = "/etc/cni/net.d"
`

// kubeletConfig has nothing evicted or collected because the host's disk is full.
const kubeletConfig = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: ` + authorityFile + `}}
authorization: {mode: Webhook}
cgroupDriver: cgroupfs
clusterDNS: [` + kubetest.DNSServiceIP + `]
clusterDomain: cluster.local
containerRuntimeEndpoint: unix://` + containerdSock + `
evictionHard: {memory.available: 100Mi}
failCgroupV1: false
failSwapOn: false
imageGCHighThresholdPercent: 100
oomScoreAdj: 0
`

// node is a machine with a kubelet.
type node struct {
	*machine.Machine
	addr    netip.Addr
	kubelet *machine.Process
}

// newNode starts a machine on the underlay, with a switch, containerd and archives of
// images.
func (c *cluster) newNode(t *testing.T, name string, addr netip.Addr, images []string) *node {
	t.Helper()
	files := map[string]string{kubeletProgram: filepath.Join(kubetest.Programs(t, "kubelet"), "kubelet")}
	for _, file := range images {
		path, err := filepath.Abs(file)
		if err != nil {
			t.Fatal(err)
		}
		files[filepath.Join(imagesDir, filepath.Base(file))] = path
	}
	n := &node{addr: addr, Machine: machine.New(t, machine.Config{
		Name: name, Net: netnstest.New(t, name), Files: files,
		Disks: []string{"/var/lib/containerd", "/var/lib/kubelet"},
	})}
	// containerd 1.6 has each pod's lo set up by a plugin.
	n.Run(t, "/bin/mkdir", "-p", "/opt/cni/bin")
	n.Run(t, "/bin/cp", "/usr/lib/cni/loopback", "/opt/cni/bin/")
	n.Write(t, "/etc/machine-id", fmt.Appendf(nil, "%032x\n", addr.As4()))
	n.startSwitch(t, c.underlay)
	n.Write(t, containerdFile, []byte(containerdConfig))
	n.Write(t, kubeletFile, []byte(kubeletConfig))
	user := c.AsNode(t, name)
	n.Write(t, kubeconfigFile, user.KubeconfigAt(t, "https://"+c.address()))
	n.Write(t, authorityFile, user.Config().CAData)
	n.Machine.Start(t, "containerd", "/usr/bin/containerd", "--config", containerdFile)
	return n
}

// startSwitch starts an Open vSwitch with the userspace datapath, which every machine
// has. It finds neighbours and the way of tunnel packets through a bridge of its own, so
// the machine's address is on one, which has the cable.
func (n *node) startSwitch(t *testing.T, underlay *netnstest.Namespace) {
	t.Helper()
	const database, socket = "/var/lib/openvswitch/conf.db", "/run/openvswitch/db.sock"
	underlay.Connect(t, n.Name(), n.Net, "eth0")
	underlay.Run(t, "ip", "link", "set", n.Name(), "master", "underlay", "up")
	n.Net.Run(t, "ip", "link", "set", "eth0", "up")
	// The switch passes on what has no checksum yet.
	n.Net.Run(t, "ethtool", "-K", "eth0", "tx", "off")
	n.Run(t, "/bin/mkdir", "-p", "/run/openvswitch", filepath.Dir(database))
	n.Run(t, "/usr/bin/ovsdb-tool", "create", database, "/usr/share/openvswitch/vswitch.ovsschema")
	n.Machine.Start(t, "ovsdb-server", "/usr/sbin/ovsdb-server", database, "--remote=punix:"+socket, "--pidfile", "-vconsole:warn", "-vsyslog:off", "-vfile:off")
	n.Run(t, "/usr/bin/ovs-vsctl", "--retry", "--no-wait", "init")
	n.Machine.Start(t, "ovs-vswitchd", "/usr/sbin/ovs-vswitchd", "unix:"+socket, "--pidfile", "--disable-system", "-vconsole:warn", "-vsyslog:off", "-vfile:off")
	n.Run(t, "/usr/bin/ovs-vsctl", "add-br", "br-phy", "--", "set", "Bridge", "br-phy", "datapath_type=netdev", "fail_mode=standalone", "--", "add-port", "br-phy", "eth0")
	n.Net.Run(t, "ip", "address", "add", fmt.Sprintf("%s/%d", n.addr, underlayBits), "dev", "br-phy")
	n.Net.Run(t, "ip", "link", "set", "br-phy", "up")
	n.Net.Run(t, "ip", "route", "add", "default", "via", kubetest.Advertised)
	n.Net.Run(t, "ethtool", "-K", "br-phy", "tx", "off")
	// The kernel gets its part of the cable's frames by the bridge, and not twice.
	n.Net.Run(t, "nft", "add table netdev cable; add chain netdev cable frames { type filter hook ingress device eth0 priority 0; policy drop; }")
}

// importImages has containerd read the archives, as soon as it answers.
func (n *node) importImages(images []string) error {
	began := time.Now()
	ticker := time.NewTicker(step)
	defer ticker.Stop()
	for {
		_, err := n.TryRun("/usr/bin/ctr", "version")
		if err == nil {
			break
		}
		if time.Since(began) > limit {
			return fmt.Errorf("containerd does not answer: %w", err)
		}
		<-ticker.C
	}
	for _, file := range images {
		if _, err := n.TryRun("/usr/bin/ctr", "--namespace", "k8s.io", "images", "import", filepath.Join(imagesDir, filepath.Base(file))); err != nil {
			return err
		}
	}
	return nil
}

// startKubelet starts the kubelet, for the first time or again.
func (n *node) startKubelet(t *testing.T) {
	t.Helper()
	n.kubelet = n.Machine.Start(t, "kubelet", kubeletProgram,
		"--config="+kubeletFile, "--kubeconfig="+kubeconfigFile,
		"--hostname-override="+n.Name(), "--node-ip="+n.addr.String())
}
