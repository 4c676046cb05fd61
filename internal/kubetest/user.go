package kubetest

import (
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// User speaks to the API server by a certificate of its own, which stays good as
// long as the cluster, also when its store is lost; or, from WithToken, by a token,
// which stays good as long as what it is of.
type User struct {
	cluster    *Cluster
	home       string
	kubeconfig string
	config     *rest.Config
}

// As makes a user with that name in those groups. What it may do is what RBAC and
// the Node authorizer say: nothing but reading about the API, if nobody says more.
func (c *Cluster) As(t testing.TB, name string, groups ...string) *User {
	t.Helper()
	certificate, key, err := c.authority.issueUser(name, groups)
	if err != nil {
		t.Fatalf("make user %s: %v", name, err)
	}
	return c.user(t, name, &clientcmdapi.AuthInfo{ClientCertificateData: certificate, ClientKeyData: key})
}

// user is whom the API server takes for who says auth.
func (c *Cluster) user(t testing.TB, name string, auth *clientcmdapi.AuthInfo) *User {
	t.Helper()
	ca, err := c.authority.pem()
	if err != nil {
		t.Fatalf("make user %s: %v", name, err)
	}
	kubeconfig := clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"kubetest": {Server: c.URL(), CertificateAuthorityData: ca}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{name: auth},
		Contexts:       map[string]*clientcmdapi.Context{"kubetest": {Cluster: "kubetest", AuthInfo: name}},
		CurrentContext: "kubetest",
	}
	// No colon: KUBECONFIG is a list of paths.
	u := &User{cluster: c, home: c.path("user-" + url.QueryEscape(name))}
	u.kubeconfig = u.home + "/kubeconfig"
	if err := clientcmd.WriteToFile(kubeconfig, u.kubeconfig); err != nil {
		t.Fatalf("make user %s: %v", name, err)
	}
	if u.config, err = clientcmd.NewDefaultClientConfig(kubeconfig, nil).ClientConfig(); err != nil {
		t.Fatalf("make user %s: %v", name, err)
	}
	u.config.QPS = -1 // a test waits for the server, not for itself
	return u
}

// AsNode makes the user that the kubelet of that node is, and whoever else uses its
// credentials.
func (c *Cluster) AsNode(t testing.TB, node string) *User {
	t.Helper()
	return c.As(t, "system:node:"+node, "system:nodes")
}

// WithToken makes the user that pods of a ServiceAccount are, by a token of the API
// server's own. With a node the token is bound to that Node, as those of pods that run
// there are. Both must exist.
func (c *Cluster) WithToken(t testing.TB, namespace, account, node string) *User {
	t.Helper()
	args := []string{"create", "token", account, "--namespace", namespace, "--duration", lifetime.String()}
	if node != "" {
		args = append(args, "--bound-object-kind", "Node", "--bound-object-name", node)
	}
	return c.user(t, "token-"+namespace+"-"+account+"-"+node, &clientcmdapi.AuthInfo{Token: c.Kubectl(t, args...)})
}

// Config is how client-go connects as this user: a copy, without a limit of
// requests.
func (u *User) Config() *rest.Config { return rest.CopyConfig(u.config) }

// Kubeconfig is the path of a file with all that is needed to connect as this user.
func (u *User) Kubeconfig() string { return u.kubeconfig }

// Command is kubectl as this user, not started yet: for what goes on beside the
// test (proctest.Start), or needs input.
func (u *User) Command(args ...string) *exec.Cmd {
	cmd := exec.Command(u.cluster.programs+"/"+kubectlProgram, args...)
	// Its caches and preferences are in HOME.
	cmd.Env = append(os.Environ(), "HOME="+u.home, "KUBECONFIG="+u.kubeconfig)
	return cmd
}

// Kubectl runs kubectl as this user and returns its output without the last
// newline. It fails the test on an error.
func (u *User) Kubectl(t testing.TB, args ...string) string {
	t.Helper()
	out, err := u.TryKubectl(args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TryKubectl is Kubectl for what may fail. The error says what kubectl said.
func (u *User) TryKubectl(args ...string) (string, error) { return run(u.Command(args...)) }

// Apply is `kubectl apply` for objects in YAML, server-side. It fails the test on an
// error, and says which objects there were, as kubectl names them.
func (u *User) Apply(t testing.TB, yaml string) []string {
	t.Helper()
	cmd := u.Command("apply", "--server-side", "-o", "name", "-f", "-")
	cmd.Stdin = strings.NewReader(yaml)
	return names(t, cmd)
}

// ApplyFiles is Apply for files, and for directories with all that is below them.
func (u *User) ApplyFiles(t testing.TB, paths ...string) []string {
	t.Helper()
	args := []string{"apply", "--server-side", "-o", "name", "--recursive"}
	for _, path := range paths {
		args = append(args, "-f", path)
	}
	return names(t, u.Command(args...))
}

func names(t testing.TB, cmd *exec.Cmd) []string {
	t.Helper()
	out, err := run(cmd)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(out)
}

func run(cmd *exec.Cmd) (string, error) {
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("kubectl %s: %w\n%s%s", strings.Join(cmd.Args[1:], " "), err, out, stderr.String())
	}
	return strings.TrimSuffix(string(out), "\n"), nil
}
