package natsd_test

import (
	"fmt"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/identity/identitytest"
	"github.com/damask-sdn/damask/internal/natsd"
)

// cluster is three servers.
type cluster struct {
	ca      *identitytest.CA
	configs []natsd.ServerConfig
	servers []*natsd.Server
	urls    []string
}

func startCluster(t testing.TB) *cluster {
	t.Helper()
	c := &cluster{ca: identitytest.New(t)}
	var routes []string
	for range 3 {
		c.configs = append(c.configs, natsd.ServerConfig{StoreDir: t.TempDir(), Listen: free(t)})
		routes = append(routes, free(t))
	}
	for i := range c.configs {
		c.configs[i].Cluster = natsd.Cluster{Name: "damask", Listen: routes[i], Routes: routes}
		c.servers = append(c.servers, startServer(t, c.ca, c.configs[i]))
		c.urls = append(c.urls, c.servers[i].URL())
	}
	return c
}

// firstBucket opens a bucket with three replicas, once the cluster has elected
// its leader.
func firstBucket(t testing.TB, nc *nats.Conn) *bucket.Bucket {
	t.Helper()
	for deadline := soon(t); ; {
		b, err := openBucket(t, nc, "ipam", 3)
		if err == nil {
			return b
		}
		if deadline.Err() != nil {
			t.Fatal(err)
		}
	}
}

// Three servers, three replicas of the bucket: the death of any one of them,
// the leader included, loses no commit and stops nobody for long.
func TestClusterSurvivesEachOfItsServers(t *testing.T) {
	c := startCluster(t)
	nc := connect(t, c.ca, identitytest.Service(t, "ipam"), c.urls...)
	b := firstBucket(t, nc)
	second, err := openBucket(t, connect(t, c.ca, identitytest.Service(t, "ipam"), c.urls...), "ipam", 3)
	if err != nil {
		t.Fatal(err)
	}
	for i := range c.servers {
		put(t, b, "hostsubnet.n1", fmt.Sprintf("claim.before%d", i))
		c.servers[i].Stop()
		sequence := put(t, b, "hostsubnet.n1", fmt.Sprintf("claim.during%d", i))
		if err := second.Wait(soon(t), sequence); err != nil {
			t.Fatal(err)
		}
		c.servers[i] = startServer(t, c.ca, c.configs[i])
		put(t, second, "hostsubnet.n1", fmt.Sprintf("claim.after%d", i))
	}
	if list := second.Snapshot().List("claim."); len(list) != 9 {
		t.Errorf("got %d claims, want 9", len(list))
	}
}

// BenchmarkClusterUpdate is one commit after the other, each on the disks of
// two servers of three before its answer.
func BenchmarkClusterUpdate(b *testing.B) {
	c := startCluster(b)
	store := firstBucket(b, connect(b, c.ca, identitytest.Service(b, "ipam"), c.urls...))
	for _, keys := range []int{1, 2} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				if _, err := store.Update(b.Context(), func(tx *bucket.Tx) error {
					for k := range keys {
						tx.Put(bucket.Key("vnid", fmt.Sprint(k)), fmt.Append(nil, i))
					}
					return nil
				}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
