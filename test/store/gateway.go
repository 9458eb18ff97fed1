// SPDX-License-Identifier: AGPL-3.0-or-later

// Package store runs object stores for tests and tools: versitygw, a real S3
// gateway over a folder, as a process, and a fake in the process. A Proxy before any of
// them counts requests, and fails those that a test chooses.
//
//   - The gateway honours the conditional writes of S3, one winner for each, and checks the
//     checksums that it is sent.
//   - What it is not like: keys are files. One that others are below, as a is of a/b,
//     is refused.
//   - Tests of a machine without versitygw are skipped; `make versitygw` makes it.
package store

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/process"
)

// Who may write to a gateway, and where it says that it is.
const (
	AccessKey = "tester"
	SecretKey = "tester-secret"
	Region    = "us-east-1"
)

// A Gateway is a running versitygw. It listens until Stop or Kill.
type Gateway struct {
	URL     string // http://host:port
	Folder  string // its buckets are folders in it
	Process *os.Process

	program, home string
	log           bytes.Buffer // of its stderr and stdout; to be read after its end
	requests      string       // file of what it was asked
	ended         chan struct{}
}

// New starts a gateway over an empty folder, until the test ends.
func New(t testing.TB) *Gateway {
	t.Helper()
	program, err := Find()
	if err != nil {
		t.Skip(err)
	}
	g, err := Start(context.Background(), program, t.TempDir())
	must.OK(t, err)
	t.Cleanup(func() {
		g.Stop()
		if t.Failed() {
			t.Logf("the gateway's log:\n%s", &g.log)
		}
	})
	return g
}

// Find looks for versitygw on the PATH, in the module's bin and where Go installs
// programs.
func Find() (string, error) {
	if path, err := exec.LookPath("versitygw"); err == nil {
		return path, nil
	}
	out, err := exec.Command("go", "env", "GOMOD", "GOBIN", "GOPATH").Output()
	if err != nil {
		return "", fmt.Errorf("go env: %w", err)
	}
	env := strings.Split(string(out), "\n")
	for _, place := range []string{filepath.Dir(env[0]) + "/bin", env[1], env[2] + "/bin"} {
		path := filepath.Join(place, "versitygw")
		if _, err := os.Stat(path); err == nil && filepath.IsAbs(path) {
			return path, nil
		}
	}
	return "", errors.New("versitygw is not there: make versitygw makes it")
}

// Start starts a gateway over a folder, which may be that of an earlier one, and returns
// once it answers. It outlives ctx.
func Start(ctx context.Context, program, folder string) (*Gateway, error) {
	g := &Gateway{program: program, home: folder, Folder: filepath.Join(folder, "buckets"), requests: filepath.Join(folder, "requests.log")}
	if err := errors.Join(os.MkdirAll(g.Folder, 0o755), os.MkdirAll(g.versions(), 0o755)); err != nil {
		return nil, err
	}
	return g, g.Restart(ctx)
}

// versions is where it puts what objects were before, if their bucket is to keep that.
func (g *Gateway) versions() string { return filepath.Join(g.home, "versions") }

// Restart starts it again after its end, at another port.
func (g *Gateway) Restart(ctx context.Context) error {
	cmd := exec.Command(g.program, "--port", "127.0.0.1:0", "--region", Region, "--keep-alive", "--health", "/health",
		"--access-log", g.requests, "posix", "--versioning-dir", g.versions(), g.Folder)
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+AccessKey, "ROOT_SECRET_KEY="+SecretKey)
	cmd.Dir, cmd.Stdout, cmd.Stderr = g.home, &g.log, &g.log
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	g.Process, g.ended = cmd.Process, ended
	go func() {
		defer close(ended)
		_ = cmd.Wait() // how it ended is in its log
	}()
	if err := g.ready(ctx); err != nil {
		g.Kill()
		return fmt.Errorf("versitygw: %w\n%s", err, &g.log)
	}
	return nil
}

// ready waits until it answers. The kernel gives it a port, of which it says nothing.
func (g *Gateway) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, must.Patience, errors.New("it does not answer"))
	defer cancel()
	for {
		address, err := listening(g.Process.Pid)
		if err != nil {
			return err
		}
		if address != "" && healthy(ctx, "http://"+address) {
			g.URL = "http://" + address
			return nil
		}
		select {
		case <-g.ended:
			return errors.New("it ended")
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func healthy(ctx context.Context, url string) bool {
	r, err := http.NewRequestWithContext(ctx, "GET", url+"/health", nil)
	if err != nil {
		return false
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return false
	}
	return res.Body.Close() == nil && res.StatusCode == http.StatusOK
}

// listener matches a socket of 127.0.0.1 in the state LISTEN: its port and its inode.
var listener = regexp.MustCompile(`^\s*\d+: 0100007F:([0-9A-F]{4}) \S+ 0A (?:\S+ +){5}(\d+) `)

// listening is where a process listens on the loopback interface, "" if it does not
// yet, or not any more.
func listening(pid int) (string, error) {
	proc := fmt.Sprintf("/proc/%d", pid)
	descriptors, err := filepath.Glob(proc + "/fd/*")
	if err != nil {
		return "", err
	}
	sockets := map[string]bool{}
	for _, path := range descriptors {
		if to, err := os.Readlink(path); err == nil { // else it was closed
			sockets[to] = true
		}
	}
	table, err := os.Open(proc + "/net/tcp")
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer table.Close()
	lines := bufio.NewScanner(table)
	for lines.Scan() {
		m := listener.FindStringSubmatch(lines.Text())
		if m == nil || !sockets["socket:["+m[2]+"]"] {
			continue
		}
		var port int
		if _, err := fmt.Sscanf(m[1], "%X", &port); err != nil {
			return "", err
		}
		return fmt.Sprintf("127.0.0.1:%d", port), nil
	}
	return "", lines.Err()
}

// Stop ends it.
func (g *Gateway) Stop() { process.Stop(g.Process, g.ended, must.Patience) }

// Kill ends it as a power cut would, but for the disk.
func (g *Gateway) Kill() {
	_ = g.Process.Kill() // fails where it has ended
	<-g.ended
}

// Env is the environment of a program that may write to a gateway.
func Env() []string {
	return []string{
		"AWS_ACCESS_KEY_ID=" + AccessKey, "AWS_SECRET_ACCESS_KEY=" + SecretKey, "AWS_REGION=" + Region,
		"AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null", "AWS_EC2_METADATA_DISABLED=true", "AWS_CA_BUNDLE=",
	}
}

// Client is a client that may write.
func (g *Gateway) Client() *s3.Client { return clientOf(g.URL) }

// clientOf is a client that may write to the store at a URL.
func clientOf(url string) *s3.Client {
	return s3.New(s3.Options{
		Region: Region, BaseEndpoint: &url, UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(AccessKey, SecretKey, ""),
	})
}

// everybodyReads is the policy of a bucket that is read without credentials.
const everybodyReads = `{"Version": "2012-10-17", "Statement": [
	{"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::%s/*"}]}`

// MakeBucket makes a bucket that everybody may read, by plain HTTP below the gateway's
// URL and its name.
func (g *Gateway) MakeBucket(ctx context.Context, name string) error {
	c := g.Client()
	if _, err := c.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &name}); err != nil {
		return err
	}
	_, err := c.PutBucketPolicy(ctx, &s3.PutBucketPolicyInput{Bucket: &name, Policy: aws.String(fmt.Sprintf(everybodyReads, name))})
	return err
}

// Bucket is MakeBucket for tests.
func (g *Gateway) Bucket(t testing.TB, name string) {
	t.Helper()
	must.OK(t, g.MakeBucket(t.Context(), name))
}
