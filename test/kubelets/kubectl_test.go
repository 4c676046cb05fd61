package kubelets

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/damask-sdn/damask/internal/proctest"
)

// hello is a web server and its Service.
const hello = `
apiVersion: v1
kind: Pod
metadata: {name: hello, namespace: shop, labels: {app: hello}}
spec:
  nodeName: node3
  terminationGracePeriodSeconds: 1
  containers:
  - name: hello
    image: localhost/damask-test:dev
    command: [/probe, web, "8080", hello]
    stdin: true
    ports: [{name: http, containerPort: 8080}]
    readinessProbe: {httpGet: {port: http, path: /}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: hello, namespace: shop}
spec:
  selector: {app: hello}
  ports: [{name: web, port: 80, targetPort: http}]
`

// podsAreReachedByKubectl does what needs a way from the API server to kubelets and pods.
func (s *shop) podsAreReachedByKubectl(t *testing.T) {
	s.Apply(t, hello)
	s.wait(t, "-n", "shop", "pod/hello", "--for=condition=Ready")
	if got := s.Kubectl(t, "logs", "hello", "-n", "shop"); got != "ready" {
		t.Errorf("the log of hello is %q", got)
	}
	var seen shares
	out := s.Kubectl(t, "exec", "client", "-n", "shop", "--", "/probe", "load", "tcp", s.clusterIP+":80", "count", "5")
	if err := json.Unmarshal([]byte(out), &seen); err != nil {
		t.Fatalf("what the client said: %v\n%s", err, out)
	}
	if answered := seen.servers(t, s.clientIP); len(answered) == 0 {
		t.Error("nobody answered the client")
	}
	s.proxiesLeadToThePod(t)
	s.portIsForwarded(t)
}

// proxiesLeadToThePod asks the API server for the page of the pod, by all of its names.
func (s *shop) proxiesLeadToThePod(t *testing.T) {
	for _, path := range []string{"pods/hello", "pods/hello:8080", "services/hello:web", "services/hello:80"} {
		// A Service has its endpoints a moment after their pods are ready.
		s.waitFor(t, "the API server leads to "+path, func() error {
			out, err := s.TryKubectl("get", "--raw", "/api/v1/namespaces/shop/"+path+"/proxy/")
			if err == nil && !strings.HasPrefix(out, "hello ") {
				err = fmt.Errorf("the page is %q", out)
			}
			return err
		})
	}
}

// portIsForwarded asks the pod by a port of the host's.
func (s *shop) portIsForwarded(t *testing.T) {
	forward := s.Command("port-forward", "-n", "shop", "pod/"+s.lines(t, "app=web", "{.metadata.name}")[0], ":8080")
	said, err := forward.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var complaints strings.Builder
	forward.Stderr = &complaints
	running := proctest.Start(t, forward)
	defer running.Kill()
	line, err := bufio.NewReader(said).ReadString('\n')
	var port int
	if err == nil {
		_, err = fmt.Sscanf(line, "Forwarding from 127.0.0.1:%d -> 8080", &port)
	}
	if err != nil {
		<-running.Done()
		t.Fatalf("kubectl port-forward says %q: %v\n%s", line, err, complaints.String())
	}
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil && err != io.EOF {
		t.Fatal(err)
	}
	if !strings.HasPrefix(answer, "web-") || !strings.HasSuffix(answer, " 127.0.0.1\n") {
		t.Errorf("the forwarded port answers %q", answer)
	}
}
